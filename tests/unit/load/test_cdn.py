"""Specification of how answers of a cache are judged."""

from dataclasses import replace

import pytest

from tests.load.cdn_edge import Offer, Published, Result, lifetime_seconds, oldest_seconds
from tests.load.generator import Report, Shown

REPORT = Report(
    seconds=10.0,
    accepted=1000,
    requests_per_second=100.0,
    p50_ms=1.0,
    p99_ms=2.0,
    max_ms=3.0,
    refused_p99_ms=0.0,
    late_p99_ms=0.0,
    statuses={"200": 1000},
    errors={},
    retry_after=0,
    timeline=(),
    cpu_seconds=0.1,
)
OFFER = Offer("cached", rate=100.0, seconds=10.0, connections=1, origin_rate=1.5)
RIGHT = Result(OFFER, REPORT, asked=10, changes=5, oldest=0.9, bound=6.0)


def published(*tops: tuple[int, int, float]) -> Published:
    """Tops by epoch, version and time."""
    made = Published()
    for epoch, version, at in tops:
        made.add((epoch, version), at)
    return made


def shown(*answers: tuple[int, int, float]) -> Report:
    """A report of answers by epoch, version and the time of the last."""
    return replace(REPORT, shown=[Shown(epoch, version, 1, last) for epoch, version, last in answers])


def test_an_answer_is_outdated_from_the_next_top_on() -> None:
    """The newest is never outdated; of the others the one counts that was shown for longest after its time."""
    tops = published((1, 1, 100.0), (1, 2, 110.0), (2, 1, 120.0))
    assert oldest_seconds(shown((2, 1, 500.0)), tops) == 0.0
    assert oldest_seconds(shown((1, 1, 110.5), (1, 2, 122.0)), tops) == pytest.approx(2.0)


def test_a_top_that_the_watcher_never_saw_counts_by_what_came_after() -> None:
    """Watchers skip; then the age is known to be at least what it is since the next that was seen."""
    tops = published((1, 1, 100.0), (1, 5, 110.0))
    assert oldest_seconds(shown((1, 3, 113.0)), tops) == pytest.approx(3.0)


def test_what_is_not_newer_is_no_publication() -> None:
    """A repeated snapshot does not make the time of its version later."""
    tops = published((1, 1, 100.0), (1, 2, 110.0), (1, 2, 150.0), (1, 1, 160.0))
    assert tops.succeeded_at((1, 1)) == 110.0
    assert tops.between(105.0, 200.0) == 1


@pytest.mark.parametrize(
    ("control", "seconds"),
    [
        ("public, max-age=0, s-maxage=1, stale-while-revalidate=5, stale-if-error=60", 6.0),
        ("s-maxage=10,stale-while-revalidate=1", 11.0),
    ],
)
def test_the_bound_is_what_the_answer_says(control: str, seconds: float) -> None:
    """Both times together."""
    assert lifetime_seconds(control) == seconds


def test_without_a_lifetime_there_is_no_bound() -> None:
    """That would be a cache that is not told what to do."""
    with pytest.raises(ValueError, match="is missing"):
        lifetime_seconds("no-store")


def test_a_run_is_right_where_everything_is() -> None:
    """All answered, none too old, the origin in peace, and something to show."""
    assert RIGHT.correct
    assert RIGHT.row()["originPerSecond"] == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RIGHT, oldest=6.1),
        replace(RIGHT, asked=16),
        replace(RIGHT, changes=0),
        replace(RIGHT, report=replace(REPORT, statuses={"200": 999, "503": 1}, accepted=999)),
        replace(RIGHT, report=replace(REPORT, errors={"EOF": 1})),
        replace(RIGHT, report=replace(REPORT, statuses={"200": 900}, accepted=900)),
    ],
    ids=["too old", "origin asked", "nothing changed", "refused", "error", "not as much as offered"],
)
def test_a_run_is_wrong_where_anything_is(wrong: Result) -> None:
    """Each by itself."""
    assert not wrong.correct
