"""A recovery time ends with the last moment at which updates were not accepted or not shown."""

import math

from tests.chaos.recovery import Observation, Shown, Span, merged, percentile, recovered, sightings

RATE = 50


def _steady(begin: float, end: float) -> list[float]:
    return [begin + number / RATE for number in range(round((end - begin) * RATE))]


def _troubles(observed: Observation) -> list[Span]:
    return merged([*observed.unaccepted(10, 30, RATE), *observed.unshown(10, 30)])


def _recovery(observed: Observation) -> float | None:
    return recovered(_troubles(observed), 10, 30)


def _ends(observed: Observation, moment: float) -> bool:
    found = _recovery(observed)
    return found is not None and math.isclose(found, moment, abs_tol=0.11)


def test_nothing_felt_is_no_recovery_time() -> None:
    """Where the rate stays and all is shown, recovery ends where it begins."""
    calm = Observation(_steady(0, 30), [Shown(time, time + 0.1) for time in range(1, 29)])
    assert _recovery(calm) == 10


def test_a_gap_in_the_acknowledgements_is_felt_until_the_rate_is_back() -> None:
    """From 12 to 15 nothing was accepted; 1.2 s later 60 % of the last two seconds' are there again."""
    assert _ends(Observation([*_steady(0, 12), *_steady(15, 30)], []), 16.2)


def test_a_gap_that_comes_late_counts() -> None:
    """A fault may be felt only when somebody notices it."""
    assert _ends(Observation([*_steady(0, 12), *_steady(12.4, 15), *_steady(18, 30)], []), 19.2)


def test_what_is_amiss_after_a_long_calm_is_another_matter() -> None:
    """It is told apart, as what came later."""
    observed = Observation([*_steady(0, 11), *_steady(12.5, 22), *_steady(24, 30)], [])
    assert _ends(observed, 13.7)
    later = [each for each in _troubles(observed) if each.begin > 14]
    assert math.isclose(sum(each.end - each.begin for each in later), 2.4, abs_tol=0.21)


def test_no_calm_yet_is_no_recovery_yet() -> None:
    """The observation must go on."""
    assert _recovery(Observation(_steady(0, 12), [])) is None


def test_half_the_rate_is_not_normal() -> None:
    """Half of the players may hang while the others play on."""
    assert _ends(Observation([*_steady(0, 10), *_steady(10, 14)[::2], *_steady(14, 30)], []), 14.4)


def test_an_update_shown_late_is_felt_until_it_is_shown() -> None:
    """Accepting is not enough: the view must show it."""
    assert _recovery(Observation(_steady(0, 30), [Shown(11, 18.5), Shown(19, 19.2)])) == 18.5


def test_an_update_from_before_that_is_shown_late_counts() -> None:
    """What was acknowledged while something was away is shown after its return."""
    assert _recovery(Observation(_steady(0, 30), [Shown(2, 13)])) == 13


def test_what_is_not_shown_at_all_has_no_end_yet() -> None:
    """The trouble lasts as long as the observation."""
    assert _recovery(Observation(_steady(0, 30), [Shown(11, math.inf)])) is None


def test_an_update_that_may_still_come_in_time_is_not_late() -> None:
    """The newest updates have not been seen yet."""
    assert _recovery(Observation(_steady(0, 30), [Shown(29, math.inf)])) == 10


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
