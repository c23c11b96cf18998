"""The sliding window is exact: compared with a reference that looks at every window there is."""

from hypothesis import given
from hypothesis import strategies as st

from podium.scores.domain_limits import MINUTE, SECOND, Limit, standing, within

limits = st.builds(Limit, st.just("user"), st.integers(1, 12), st.sampled_from([SECOND, 5 * SECOND, MINUTE]))
arrivals = st.lists(st.integers(0, 20 * SECOND), max_size=120)


def accepted(limit: Limit, gaps: list[int]) -> list[int]:
    """The acceptance times when updates arrive with these gaps between them."""
    times: list[int] = []
    now = 0
    for gap in gaps:
        now += gap
        if standing(limit, times, now).remaining:
            times.append(now)
    return times


def reference(limit: Limit, gaps: list[int]) -> list[int]:
    """The same by trying: accept unless some half-open window of the limit's length would hold too many."""
    times: list[int] = []
    now = 0
    for gap in gaps:
        now += gap
        tried = [*times, now]
        if all(sum(start <= time < start + limit.window for time in tried) <= limit.count for start in tried):
            times = tried
    return times


@given(limits, arrivals)
def test_what_is_accepted_equals_the_reference(limit: Limit, gaps: list[int]) -> None:
    """No window of the length ever holds more, and nothing that fits is refused."""
    assert accepted(limit, gaps) == reference(limit, gaps)


@given(limits, arrivals, st.integers(0, 10 * SECOND))
def test_waiting_as_told_is_enough_and_needed(limit: Limit, gaps: list[int], later: int) -> None:
    """With none remaining, the next one is accepted after ``reset`` and not a microsecond before."""
    times = accepted(limit, gaps)
    now = (times[-1] if times else 0) + later
    here = standing(limit, times, now)
    if here.remaining == 0:
        assert here.reset > 0
        assert standing(limit, times, now + here.reset).remaining > 0
        assert standing(limit, times, now + here.reset - 1).remaining == 0


@given(limits, arrivals, st.integers(1, 12))
def test_times_that_left_the_window_do_not_matter(limit: Limit, gaps: list[int], lower: int) -> None:
    """Keeping only what is within the window changes no decision, also when the limit is lowered afterwards."""
    times = accepted(limit, gaps)
    now = times[-1] + SECOND if times else 0
    lowered = Limit("user", lower, limit.window)
    assert standing(lowered, within(times, limit.window, now), now) == standing(lowered, times, now)


def test_a_time_leaves_exactly_when_its_window_is_over() -> None:
    """Ten at once: the eleventh is accepted 60 s later, not a microsecond earlier."""
    limit = Limit("user", 10, MINUTE)
    assert standing(limit, [7] * 10, 7 + MINUTE - 1).remaining == 0
    assert standing(limit, [7] * 10, 7 + MINUTE).remaining == 10
