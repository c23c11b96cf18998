"""A recovery time ends with the last moment at which updates were not accepted or not shown."""

import math

from tests.chaos.recovery import Observation, Shown, percentile, sightings

RATE = 50


def _steady(begin: float, end: float) -> list[float]:
    return [begin + number / RATE for number in range(round((end - begin) * RATE))]


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, abs_tol=0.11)


def test_nothing_felt_is_no_recovery_time() -> None:
    """Where the rate stays and all is shown, recovery ends where it begins."""
    calm = Observation(_steady(0, 30), [Shown(time, time + 0.1) for time in range(1, 29)])
    assert calm.last_trouble(10, 30, RATE) == 10


def test_a_gap_in_the_acknowledgements_is_felt_until_the_rate_is_back() -> None:
    """From 12 to 15 nothing was accepted; 0.7 s later 70 % of the last second's are there again."""
    gap = Observation([*_steady(0, 12), *_steady(15, 30)], [])
    assert _near(gap.last_trouble(10, 30, RATE), 15.7)


def test_a_gap_that_comes_late_counts() -> None:
    """A fault may be felt only when somebody notices it."""
    late = Observation([*_steady(0, 12), *_steady(12.4, 20), *_steady(22, 30)], [])
    assert _near(late.last_trouble(10, 30, RATE), 22.7)


def test_half_the_rate_is_not_normal() -> None:
    """Half of the players may hang while the others play on."""
    half = Observation([*_steady(0, 10), *_steady(10, 14)[::2], *_steady(14, 30)], [])
    assert _near(half.last_trouble(10, 30, RATE), 14.4)


def test_an_update_shown_late_is_felt_until_it_is_shown() -> None:
    """Accepting is not enough: the view must show it."""
    late = Observation(_steady(0, 30), [Shown(11, 18.5), Shown(19, 19.2)])
    assert late.last_trouble(10, 30, RATE) == 18.5


def test_what_is_not_shown_at_all_has_no_end_yet() -> None:
    """The trouble lasts as long as the observation."""
    never = Observation(_steady(0, 30), [Shown(11, math.inf)])
    assert never.last_trouble(10, 30, RATE) == 30


def test_an_update_that_may_still_come_in_time_is_not_late() -> None:
    """The newest updates have not been seen yet."""
    newest = Observation(_steady(0, 30), [Shown(29, math.inf)])
    assert newest.last_trouble(10, 30, RATE) == 10


def test_an_update_is_seen_with_it_or_with_a_later_one() -> None:
    """A watcher may skip to the newest snapshot."""
    seen = [(1.0, 10), (3.0, 40), (4.0, 40), (5.0, 30)]
    assert sightings([(0.9, 10), (2.0, 20), (2.5, 40), (6.0, 50)], seen) == [
        Shown(0.9, 1.0),
        Shown(2.0, 3.0),
        Shown(2.5, 3.0),
        Shown(6.0, math.inf),
    ]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank."""
    assert percentile([float(value) for value in range(1, 101)], 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert percentile([], 0.99) == 0
