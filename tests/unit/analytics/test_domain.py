"""Windows, counts, turnover and tables."""

import csv
import io
import json
import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.analytics.domain import (
    MalformedEvent,
    Update,
    active,
    count,
    linear_bounds,
    parse_event,
    spans,
    to_csv,
    turnover,
    window_start,
)

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
UPDATES = st.lists(
    st.builds(
        Update,
        st.sampled_from(["a", "b"]),
        st.sampled_from(["u", "v", "w"]),
        st.just("win"),
        st.integers(-9, 99),
        MOMENTS,
    ),
    max_size=40,
)


def _event(**entry: Any) -> bytes:
    update = {
        "board": "b", "userId": "u", "actionId": "a", "actionType": "win", "scoreIncrease": 3,
        "acceptedAt": "2026-01-01T00:00:00.123456Z", "traceparent": None, **entry,
    }  # fmt: skip
    return json.dumps({"eventId": str(uuid.uuid4()), "updates": [update]}).encode()


@given(MOMENTS, st.sampled_from([1, 60, 3600, 86_400]))
def test_a_moment_lies_in_its_window(moment: datetime, seconds: int) -> None:
    """Windows are aligned, half open, and cover all time."""
    start = window_start(moment, seconds)
    assert start <= moment < start + timedelta(seconds=seconds)
    assert int(start.timestamp()) % seconds == 0


@given(UPDATES, st.sampled_from([1, 60, 3600]))
def test_counting_loses_and_doubles_nothing(updates: list[Update], seconds: int) -> None:
    """Sums over windows are sums over updates, and every active user is some update's."""
    counts = count(updates, seconds).values()
    assert sum(one.updates for one in counts) == len(updates)
    assert sum(one.points for one in counts) == sum(update.points for update in updates)
    users = active(updates, spans(seconds))
    assert {(board, user) for board, _, _, user in users} == {(update.board, update.user_id) for update in updates}


@given(st.integers(-1000, 1000), st.integers(0, 5000), st.integers(1, 200))
def test_bounds_cover_the_range_without_gaps(low: int, width: int, buckets: int) -> None:
    """Ranges follow each other and end exactly at the highest score."""
    bounds = linear_bounds(low, low + width, buckets)
    assert (bounds[0][0], bounds[-1][1]) == (low, low + width)
    assert all(later[0] == earlier[1] + 1 for earlier, later in pairwise(bounds))
    assert len(bounds) <= buckets


def test_turnover_names_who_came_and_went() -> None:
    """In the order of ranks; a change of places is none."""
    assert turnover(["a", "b", "c"], ["c", "d", "a"]) == (["d"], ["b"])


def test_an_event_is_parsed_and_an_admins_act_counts_nothing() -> None:
    """Accepted updates have an action; an act of an administrator has none."""
    (update,) = parse_event(_event()).updates
    assert (update.board, update.user_id, update.points) == ("b", "u", 3)
    assert parse_event(_event(actionId=None, acceptedAt=None, scoreIncrease=None)).updates == ()


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"\xff", b"[]", b'{"eventId":"x","updates":[]}', _event(acceptedAt=None), _event(scoreIncrease=None),
     _event(acceptedAt="2026-01-01T00:00:00"), _event(userId="a\x00"), _event(board=7),
     _event(acceptedAt="0001-01-01T00:00:00+14:00"), _event(acceptedAt="9999-12-31T23:59:59-14:00")],
)  # fmt: skip
def test_what_can_never_be_counted_is_malformed(payload: bytes) -> None:
    """Each of these goes to the dead letters at once."""
    with pytest.raises(MalformedEvent):
        parse_event(payload)


def test_csv_is_safe_for_spreadsheets() -> None:
    """Quotes and line breaks survive; formulas become text; numbers stay numbers."""
    rows = [{"a": '=cmd|"x"', "b": 'x,"y"\n', "c": -5, "d": None}, {"a": "@x", "b": "-1", "c": 7, "d": "ok"}]
    assert list(csv.reader(io.StringIO(to_csv(["a", "b", "c", "d"], rows)))) == [
        ["a", "b", "c", "d"], ["'=cmd|\"x\"", 'x,"y"\n', "-5", ""], ["'@x", "'-1", "7", "ok"]
    ]  # fmt: skip
