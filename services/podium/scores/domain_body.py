"""The body of a score update: strict JSON of exactly one form. Pure.

Stricter than RFC 8259 where leniency would let two parties read different things, or would fail later in a store that
many updates share: no doubled names, no unknown fields, no NUL, no lone surrogates, bounded numbers and nesting.
"""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from podium.scores.domain_rules import pointer

MAX_BODY_BYTES = 16 * 1024
"""Largest body, in bytes."""

MAX_ACTION_ID_CHARACTERS = 128
"""Longest actionId, in characters (code points); the shortest is 1."""

MAX_DEPTH = 32
"""Deepest nesting of arrays and objects in a body."""

MAX_INTEGER = 2**63 - 1
"""Largest magnitude of an integer in a body."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_DATA_DEPTH = 2
"""How deep additionalData stands in a body."""

_QUOTES = 16
"""Quotation marks of a body without escapes, apart from those of additionalData: five names and three strings."""


class MalformedBody(ValueError):
    """The body is not of the form; ``errors`` are pairs of JSON pointer and sentence."""

    def __init__(self, detail: str, errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.errors = errors


class Body(msgspec.Struct, frozen=True):
    """A well-formed body. ``timestamp`` is the client's, in Unix microseconds; ``metadata`` actionMetadata as JSON."""

    action_id: str
    action_type: str
    timestamp: int
    data: Any
    metadata: str


class _Metadata(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    timestamp: str
    data: msgspec.Raw = msgspec.field(name="additionalData")


class _Document(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    action_id: str = msgspec.field(name="actionId")
    metadata: _Metadata = msgspec.field(name="actionMetadata")


_decode = msgspec.json.Decoder(_Document).decode
_encode = msgspec.json.Encoder().encode


def parse_body(raw: bytes) -> Body:
    """Read a body; MalformedBody says what is wrong where."""
    return _parse_plain(raw) or _parse_any(raw)


def _parse_plain(raw: bytes) -> Body | None:
    """A correct body of printable ASCII without escapes, as nearly all are; None where a closer look is needed.

    There each string has exactly two quotation marks, so a doubled name shows in their number.
    """
    if not raw.isascii() or b"\\" in raw or not raw.decode("ascii").isprintable():
        return None
    try:
        document = _decode(raw)
        metadata = document.metadata
        data_text = bytes(metadata.data)
        if raw.count(b'"') - data_text.count(b'"') != _QUOTES:
            return None
        data: Any = {}
        if data_text != b"{}":
            data = _parse_data(data_text)
            # As it was read, not as it was spelled: a double's digits always fit into PostgreSQL's numeric.
            metadata.data = msgspec.Raw(_encode(data))
        timestamp = parse_date_time(metadata.timestamp)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        return None
    action_id = document.action_id
    if not 1 <= len(action_id) <= MAX_ACTION_ID_CHARACTERS:
        return None
    return Body(action_id, metadata.type, timestamp, data, _encode(metadata).decode())


def _parse_data(text: bytes) -> Any:
    data = _JSON.decode(text.decode("ascii"))
    _check_values(data, _DATA_DEPTH)
    return data


def _parse_any(raw: bytes) -> Body:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedBody("the body is not UTF-8") from None
    try:
        document = _JSON.decode(text)
    except MalformedBody:
        raise
    except (ValueError, RecursionError):
        raise MalformedBody("the body is not JSON") from None
    _check_values(document, 0)
    fields = _fields(document, "", ("actionId", "actionMetadata"))
    metadata = _fields(fields["actionMetadata"], "/actionMetadata", ("type", "timestamp", "additionalData"))
    action_id = _text(fields["actionId"], "/actionId")
    if not 1 <= len(action_id) <= MAX_ACTION_ID_CHARACTERS:
        _fail("/actionId", f"must have 1 to {MAX_ACTION_ID_CHARACTERS} characters")
    return Body(
        action_id=action_id,
        action_type=_text(metadata["type"], "/actionMetadata/type"),
        timestamp=_timestamp(_text(metadata["timestamp"], "/actionMetadata/timestamp")),
        data=metadata["additionalData"],
        metadata=_encode(metadata).decode(),
    )


def parse_date_time(text: str) -> int:
    """Unix microseconds of an RFC 3339 date-time with offset. ValueError where it is none.

    Digits beyond microseconds are cut off; a leap second counts as the second after.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time")
    date, clock, second, fraction, offset = match.groups()
    microseconds = _minute(date, clock, offset) + int(second) * 1_000_000
    # A leap second counts as the second after, which is what its 60 makes of it.
    if second > "60":
        raise ValueError("a minute has no such second")
    return microseconds + (int(fraction[:6].ljust(6, "0")) if fraction else 0)


@lru_cache(maxsize=4096)
def _minute(date: str, clock: str, offset: str) -> int:
    return (datetime.fromisoformat(f"{date}T{clock}:00{offset.upper()}") - _EPOCH) // _MICROSECOND


def _timestamp(text: str) -> int:
    try:
        return parse_date_time(text)
    except (ValueError, OverflowError):
        _fail("/actionMetadata/timestamp", "must be an RFC 3339 date-time with offset, like 2026-01-01T00:00:00Z")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedBody("an object has the same name twice")
    return result


def _integer(text: str) -> int:
    # Python's own bound on the length of digits is far above ours; the check of the text keeps the conversion cheap.
    value = int(text) if len(text) <= 20 else None
    if value is None or abs(value) > MAX_INTEGER:
        raise MalformedBody("an integer is beyond 64 bits")
    return value


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise MalformedBody("a number is beyond the range of a double")
    return value


def _constant(name: str) -> NoReturn:
    raise MalformedBody(f"{name} is not JSON")


def _check_values(document: Any, depth: int) -> None:
    """Refuse what JSON can spell but PostgreSQL cannot keep, and nesting that is too deep; ``depth`` is that of the
    document's own place."""
    level: list[Any] = [document]
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                for name in value:
                    _check_text(name)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if below:
            depth += 1
            if depth > MAX_DEPTH:
                raise MalformedBody(f"the body is nested deeper than {MAX_DEPTH} levels")
        level = below


def _check_text(text: str) -> None:
    if text.isascii():
        if "\x00" in text:
            raise MalformedBody("a string holds the character U+0000")
        return
    if "\x00" in text:
        raise MalformedBody("a string holds the character U+0000")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedBody("a string holds half of a surrogate pair") from None


def _fields(value: Any, at: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        _fail(at, "must be an object")
    errors = [(pointer(at, name), "is missing") for name in names if name not in value]
    errors += [(pointer(at, name[:64]), "is not a known field") for name in list(value)[:16] if name not in names]
    if errors:
        raise MalformedBody("the body does not have exactly the expected fields", tuple(errors))
    return value


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str):
        _fail(at, "must be a string")
    return value


def _fail(at: str, detail: str) -> NoReturn:
    raise MalformedBody(f"{at or 'the body'} {detail}", ((at, detail),))


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant)
