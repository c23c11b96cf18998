"""The body: exactly one form, and nothing that a store could choke on."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.scores.domain_body import (
    MAX_DEPTH,
    MAX_INTEGER,
    MalformedBody,
    _parse_any,
    _parse_plain,
    parse_body,
    parse_date_time,
)

TIMESTAMP = "2026-01-01T00:00:00Z"


def body(action_id: Any = "a1", data: Any = None, **metadata: Any) -> bytes:
    fields = {"type": "win", "timestamp": TIMESTAMP, "additionalData": data} | metadata
    return json.dumps({"actionId": action_id, "actionMetadata": fields}).encode()


def raw(data: str) -> bytes:
    """A body with this text as its data."""
    head = '{"actionId":"a","actionMetadata":{"type":"win","timestamp":"2026-01-01T00:00:00Z","additionalData":'
    return head.encode() + data.encode() + b"}}"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
def test_any_sensible_data_is_read_as_sent(data: Any) -> None:
    """Whatever JSON within the bounds: the data comes out as it went in."""
    assert parse_body(body(data=data)).data == data


edits = st.lists(st.tuples(st.integers(0, 200), st.sampled_from(b'"\\{}[],:0e-.9 \n\x7fa\xc3')), max_size=3)


@given(json_values, edits, st.booleans())
def test_the_quick_reading_and_the_strict_one_agree(data: Any, changes: list[tuple[int, int]], compact: bool) -> None:
    """A body as most clients write it takes a short cut, which reads the same and lets nothing else pass."""
    document = {"actionId": "a1", "actionMetadata": {"type": "win", "timestamp": TIMESTAMP, "additionalData": data}}
    text = bytearray(json.dumps(document, separators=(",", ":") if compact else None).encode())
    for position, byte in changes:
        text[position % len(text)] = byte
    quick = _parse_plain(bytes(text))
    if quick is not None:
        assert quick == _parse_any(bytes(text))


@pytest.mark.parametrize(
    "data",
    ['{"a":1,"a":1}', '{"a":[{"b":1,"b":2}]}', "1e999", "NaN", "01", "[1,]", "9" * 30, "[" * 31 + "]" * 31, "1e-20000"],
)
def test_the_quick_reading_sees_what_the_strict_one_sees(data: str) -> None:
    """Doubled names, numbers beyond the bounds and deep nesting do not pass by the short cut."""
    quick = _parse_plain(raw(data))
    if quick is None:
        return
    assert quick == _parse_any(raw(data))


def test_common_bodies_take_the_short_cut() -> None:
    """Which is what it is for."""
    assert _parse_plain(body(data={})) is not None
    assert _parse_plain(body(data={"level": 3, "tags": ["a", "b"]})) is not None
    assert _parse_plain(raw('{}},"x":{"y":{}')) is None
    assert _parse_plain(b'{"actionId":"a",' + raw("{}")[1:]) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(noise: bytes) -> None:
    """Noise is malformed, never another exception."""
    with pytest.raises(MalformedBody):
        parse_body(noise)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xef\xbb\xbf" + body(),
        body() + b"x",
        body().decode().encode("utf-16"),
        body(action_id=""),
        body(action_id="x" * 129),
        body(action_id=7),
        body(action_id=None),
        body(action_id="a\x00b"),
        body(action_id="\ud800"),
        body(type=None),
        body(extra=1),
        body(timestamp=1_767_225_600),
        json.dumps({"actionId": "a", "actionMetadata": []}).encode(),
        json.dumps({"actionId": "a", "actionMetadata": {"type": "win", "timestamp": TIMESTAMP}}).encode(),
        json.dumps({**json.loads(body()), "points": 1000}).encode(),
        raw('{"a":1,"a":2}'),
        raw('"\\u0000"'),
        raw('{"\\u0000":1}'),
        raw('"\\udc00"'),
        raw("NaN"),
        raw("-Infinity"),
        raw("1e400"),
        raw(str(MAX_INTEGER + 1)),
        raw("1" * 5000),
        raw("[" * 40 + "]" * 40),
        b"[" * 16000,
    ],
)
def test_what_is_refused(text: bytes) -> None:
    """Other forms, doubled names, unknown fields, NUL, lone surrogates, numbers and nesting beyond the bounds."""
    with pytest.raises(MalformedBody):
        parse_body(text)


def test_the_bounds_themselves_are_accepted() -> None:
    """128 characters of actionId (not bytes), 64-bit integers, the deepest nesting."""
    assert parse_body(body(action_id="ü" * 128)).action_id == "ü" * 128
    assert parse_body(raw(str(-MAX_INTEGER))).data == -MAX_INTEGER
    inside = MAX_DEPTH - 2
    assert parse_body(raw("[" * inside + "1" + "]" * inside)).data
    with pytest.raises(MalformedBody):
        parse_body(raw("[" * (inside + 1) + "1" + "]" * (inside + 1)))


def test_errors_point_at_their_place() -> None:
    """Missing and unknown fields are named by JSON pointers."""
    with pytest.raises(MalformedBody) as caught:
        parse_body(b'{"actionId":"a","actionMetadata":{"type":"w","timestamp":"x","a/b~c":1}}')
    assert [pointer for pointer, _ in caught.value.errors] == [
        "/actionMetadata/additionalData",
        "/actionMetadata/a~1b~0c",
    ]


@given(st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_date_times_round_trip(naive: datetime, minutes: int) -> None:
    """Any moment in any offset is read to the microsecond."""
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_date_time(moment.isoformat()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("1970-01-01T00:00:00.1234567899Z", 123_456),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
    ],
)
def test_date_times_of_rfc_3339(text: str, expected: int) -> None:
    """Lower case, long fractions, offsets, the unknown offset and leap seconds are valid."""
    assert parse_date_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z",
        "2026-01-01T00:00Z", "2026-01-01T00:00:00+0100", "2026-01-01T00:00:00+24:00", "2026-W01-1T00:00:00Z",
        "0000-01-01T00:00:00Z", "٢٠٢٦-01-01T00:00:00Z", "2026-01-01T00:00:61Z",
    ],
)  # fmt: skip
def test_other_date_times_are_refused(text: str) -> None:
    """ISO 8601 has more forms than RFC 3339; they are no date-times here."""
    with pytest.raises(ValueError, match=r".+"):
        parse_date_time(text)
