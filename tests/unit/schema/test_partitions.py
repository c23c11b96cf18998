"""Which partitions the log of actions should have."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.schema.partitions import AHEAD, DAY, Partition, end_of, expired, missing, named, overdue, parse, width_of

TODAY = datetime(2026, 11, 23, tzinfo=UTC)
NOW = TODAY + timedelta(hours=13)


@pytest.mark.parametrize(("retention", "days"), [(90, 15), (1, 1), (6, 1), (11, 1), (12, 2), (400, 66)])
def test_a_partition_is_a_sixth_of_the_retention_wide(retention: int, days: int) -> None:
    """In whole days, at least one."""
    assert width_of(timedelta(days=retention)) == timedelta(days=days)


def test_bounds_are_read_as_postgresql_writes_them() -> None:
    """With a beginning, without one, and the default partition, which has none at all."""
    text = "FOR VALUES FROM ('2026-11-25 00:00:00+00') TO ('2026-12-10 00:00:00+00')"
    assert parse("a", text) == Partition("a", TODAY + 2 * DAY, TODAY + 17 * DAY)
    assert parse("b", text.replace("'2026-11-25 00:00:00+00'", "MINVALUE")) == Partition("b", None, TODAY + 17 * DAY)
    assert parse("c", "DEFAULT") is None


@pytest.mark.parametrize("bounds", ["FOR VALUES FROM ('2026-11-25 00:00:00+00') TO (MAXVALUE)", "FOR VALUES IN (1)"])
def test_bounds_that_are_not_ours_are_refused(bounds: str) -> None:
    """Somebody else's partition is left alone, loudly."""
    with pytest.raises(ValueError, match="not ours"):
        parse("a", bounds)


def test_the_next_partition_begins_where_the_last_one_ends() -> None:
    """Whatever the width was before."""
    known = [Partition("action_log_first", None, TODAY + 2 * DAY)]
    made = missing(end_of(known, NOW), NOW, 15 * DAY)
    assert made == [
        Partition("action_log_20261125", TODAY + 2 * DAY, TODAY + 17 * DAY),
        Partition("action_log_20261210", TODAY + 17 * DAY, TODAY + 32 * DAY),
    ]
    assert missing(end_of(known + made, NOW), NOW, 15 * DAY) == []


def test_days_that_are_over_get_no_partitions() -> None:
    """After a year without updates and without maintenance, partitions begin today."""
    made = missing(TODAY - 365 * DAY, NOW, DAY)
    assert [partition.start for partition in made] == [TODAY, TODAY + DAY, TODAY + 2 * DAY]


@given(st.integers(1, 400), st.lists(st.tuples(st.integers(1, 60), st.integers(1, 400)), max_size=20), st.booleans())
def test_partitions_never_overlap_and_always_reach_ahead(
    retention: int, looks: list[tuple[int, int]], collected: bool
) -> None:
    """However long maintenance is away, whatever the retention becomes, with and without rows in the default one."""
    known = [Partition("action_log_first", None, TODAY + 2 * DAY)]
    now = NOW
    for away, retention_now in [(0, retention), *looks]:
        now += away * DAY
        kept, width = retention_now * DAY, width_of(retention_now * DAY)
        end = end_of(known, now)
        if collected and end <= now:
            known.append(overdue(end, now, now, width))
            assert known[-1].end >= now + width
        known += missing(end_of(known, now), now, width)
        gone = expired(known, now, kept)
        assert all(partition.end <= now - kept for partition in gone)
        known = [partition for partition in known if partition not in gone]
        assert all(two.start is not None and one.end <= two.start for one, two in pairwise(known))
        assert end_of(known, now) >= now + AHEAD * width
        assert len({partition.name for partition in known}) == len(known)


def test_what_was_collected_gets_one_partition() -> None:
    """It covers the newest row, even one of the future, and what comes in the next width."""
    made = overdue(TODAY - 40 * DAY, NOW + 3 * DAY, NOW, 15 * DAY)
    assert made.start == TODAY - 40 * DAY
    assert made.end == TODAY + 20 * DAY
    assert made.name == named(TODAY - 40 * DAY, NOW).name


def test_a_partition_goes_when_its_newest_row_is_past_the_retention() -> None:
    """Never a row too early."""
    known = [Partition(str(days), None, NOW - days * DAY) for days in (89, 90, 91)]
    assert [partition.name for partition in expired(known, NOW, 90 * DAY)] == ["90", "91"]
