"""Conflation: how often a board is broadcast."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.scoreboard.tick import next_due

TICK = 0.05


def sent(offers: list[float]) -> list[float]:
    """When broadcasts go of what is offered at these times: at once, or when they are due."""
    due = 0.0
    times: list[float] = []
    for offered in offers:
        if times and offered <= times[-1]:
            continue  # is conflated into the one before
        now = max(offered, due)
        times.append(now)
        due = next_due(due, now, TICK)
    return times


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60))
def test_no_more_than_one_a_tick(milliseconds: list[int]) -> None:
    """In any span; and never two within half a tick."""
    times = sent(sorted(1 + each / 1000 for each in milliseconds))
    assert all(later - earlier >= TICK / 2 - 1e-9 for earlier, later in pairwise(times))
    for (i, first), (j, last) in combinations(enumerate(times), 2):
        assert j - i + 1 <= (last - first) / TICK + 1.5 + 1e-9


@given(st.lists(st.integers(0, 24), min_size=2, max_size=60))
def test_one_that_is_late_delays_none_after_it(delays: list[int]) -> None:
    """Changes that come a little less often than the tick, each late by less than half of it, all go at once."""
    offers = [1 + number * 1.1 * TICK + delay / 1000 for number, delay in enumerate([0, *delays])]
    # The first changes of a burst have yet to gain their half tick.
    assert sent(offers)[8:] == pytest.approx(offers[8:])


def test_a_burst_begins_with_a_whole_tick() -> None:
    """The first change goes at once, the next two wait."""
    assert sent([1.0, 1.01, 1.06]) == pytest.approx([1.0, 1.05, 1.10])


def test_without_a_tick_nothing_waits() -> None:
    """0 is allowed."""
    assert next_due(0.0, 7.0, 0.0) == 7.0
