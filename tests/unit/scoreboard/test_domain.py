"""The ranking's order, snapshots and representations."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from podium.scoreboard.domain import (
    Page,
    Ranking,
    Snapshot,
    Tops,
    continued,
    decode_snapshot,
    member,
    micros,
    percentile,
    timestamp,
)
from podium.scoreboard.events import decode_event
from podium.scoreboard.representations import PLAIN, Published, document, entity_tag, frame, matches, page_of

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
USERS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


def snapshot(epoch: int, version: int, *places: Ranking, board: str = "default") -> Snapshot:
    """A snapshot of a time that does not matter."""
    return Snapshot(board, epoch, version, places, "2026-01-01T00:00:00.000000Z")


@given(st.lists(st.tuples(st.integers(-(2**53) + 1, 2**53 - 1), MOMENTS, USERS), max_size=20))
def test_the_sorted_set_orders_as_sql_does(rows: list[tuple[int, datetime, str]]) -> None:
    """(negated score, member as bytes) is the order ``score DESC, reached_at ASC, user_id COLLATE "C" ASC``."""
    sql = sorted(rows, key=lambda row: (-row[0], row[1], row[2].encode()))
    redis = sorted(rows, key=lambda row: (float(-row[0]), member(micros(row[1]), row[2]).encode()))
    assert redis == sql


@given(MOMENTS)
def test_micros_are_exact(moment: datetime) -> None:
    """No microsecond is lost on the way through an integer, whatever the offset."""
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros(elsewhere)) == moment


@given(MOMENTS, MOMENTS)
def test_timestamps_compare_as_times(one: datetime, other: datetime) -> None:
    """Texts of one width sort as what they mean."""
    assert (timestamp(one) < timestamp(other)) == (one < other)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6))))
def test_a_top_never_goes_back(ages: list[tuple[int, int]]) -> None:
    """Whatever the order of arrival, what is shown only grows and ends at the newest."""
    tops, shown = Tops(), []
    for age in ages:
        if tops.offer(snapshot(*age)):
            shown.append(age)
    assert shown == sorted(set(shown))
    newest = tops.get("default")
    assert (newest.age if newest else None) == (max(ages) if ages else None)


def test_an_older_page_goes_on_below_a_newer_top() -> None:
    """Nobody stands twice, ranks have no gaps, and the version is the newer one."""
    page = Page(tuple(Ranking(user, user, 9 - at, at) for at, user in enumerate("abcdef", 1)), "t0", "default", 3, 7)
    top = snapshot(3, 8, Ranking("d", "d", 20, 1), Ranking("a", "a", 8, 2))
    found = continued(top, page, 5)
    assert [(one.user_id, one.rank) for one in found.rankings] == [("d", 1), ("a", 2), ("c", 3), ("e", 4), ("f", 5)]
    assert (found.epoch, found.version, found.last_updated) == (3, 8, top.last_updated)
    assert continued(snapshot(3, 7), page, 6) == page


def test_a_page_that_goes_on_never_goes_back() -> None:
    """A page newer than the top stays what it was; who is restricted by now is in neither case shown."""
    page = Page(tuple(Ranking(user, user, 9 - at, at) for at, user in enumerate("abc", 1)), "t0", "default", 3, 8)
    top = snapshot(3, 7, Ranking("b", "b", 9, 1))
    assert continued(top, page, 3) == page
    found = continued(top, page, 3, lambda user: user == "a")
    assert [(one.user_id, one.rank) for one in found.rankings] == [("b", 1), ("c", 2)]
    assert (found.epoch, found.version) == (3, 8)
    older = Page(page.rankings, "t0", "default", 3, 6)
    assert [one.user_id for one in continued(top, older, 3, lambda user: user == "c").rankings] == ["b"]


def test_percentile_is_the_share_of_the_others_behind() -> None:
    """First of many: 100; last: 0; alone: 100."""
    assert [percentile(rank, 5) for rank in (1, 3, 5)] == [100.0, 50.0, 0.0]
    assert percentile(1, 1) == 100.0


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_frames_are_what_a_client_reads(size: int) -> None:
    """The websockets library parses a frame of each length form."""
    client = Protocol(CLIENT, state=OPEN, max_size=None)
    payload = b"x" * size
    client.receive_data(frame(payload))
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin, bytes(event.data)) == (Opcode.TEXT, True, payload)


def test_one_snapshot_has_one_json_for_all_ways() -> None:
    """WebSocket and SSE carry the same; GET shows the first places of it."""
    top = snapshot(3, 7, Ranking("u1", 'A"n\n', 5, 1), Ranking("u2", "B", 4, 2))
    published = Published(top, 1)
    event = published.event.decode()
    assert event.startswith("event: snapshot\nid: 3:7\ndata: {")
    assert event.endswith("}\n\n")
    data = event.splitlines()[2].removeprefix("data: ")
    assert published.frame_for(PLAIN).endswith(data.encode())
    assert msgspec.json.decode(data) == {"type": "snapshot", **msgspec.json.decode(document(page_of(top, 10)))}
    assert msgspec.json.decode(document(page_of(top, 1)))["rankings"] == [
        {"userId": "u1", "username": 'A"n\n', "score": 5, "rank": 1}
    ]


def test_if_none_match() -> None:
    """A list, a weak form and ``*`` match; another tag does not."""
    tag = entity_tag(b"body")
    assert tag != entity_tag(b"bodies")
    for given_header in (tag, f'"x", {tag}', f"W/{tag}", "*"):
        assert matches(given_header, tag)
    assert not matches('"x"', tag)
    assert not matches(None, tag)


@pytest.mark.parametrize(
    "change",
    [
        {"score": 2**53},
        {"score": 1.5},
        {"version": -1},
        {"reachedAt": "2026-01-01T00:00:00"},
        {"reachedAt": "0001-01-01T00:00:00Z"},
        {"reachedAt": "2300-01-01T00:00:00Z"},
        {"acceptedAt": "0001-01-01T00:00:00+14:00"},
        {"acceptedAt": "9999-12-31T23:59:59-14:00"},
        {"userId": ""},
        {"board": "No Such Board"},
        {"hidden": "no"},
    ],
    ids=str,
)
def test_a_bad_event_is_refused(change: dict[str, object]) -> None:
    """What cannot be ranked exactly is no event."""
    good = {
        "board": "default",
        "userId": "u1",
        "username": "U",
        "score": 1,
        "version": 1,
        "reachedAt": "2026-01-01T00:00:00.5Z",
    }
    (update,) = decode_event(msgspec.json.encode({"eventId": "e", "updates": [good]})).updates
    assert update.reached_micros == 1767225600500000
    with pytest.raises(msgspec.ValidationError):
        decode_event(msgspec.json.encode({"eventId": "e", "updates": [good | change]}))


def test_a_snapshot_is_read_back() -> None:
    """What a projector stored is what a pod shows."""
    top = snapshot(1, 1, Ranking("u1", "A", 2**53 - 1, 1))
    assert decode_snapshot(msgspec.json.encode(top)) == top
