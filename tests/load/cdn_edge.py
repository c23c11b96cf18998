"""What a shared cache showed, held against what was published: how old, and how often the origin was asked. Pure."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.load.generator import Report
from tests.load.rounds import Row

Age = tuple[int, int]
"""(epoch, version) of a board's top."""

_SECONDS = re.compile(r"(s-maxage|stale-while-revalidate)=([0-9]+)")


@dataclass
class Published:
    """When each top was published, oldest first, as a watcher of the origin saw it."""

    ages: list[Age] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Unix seconds."""

    def add(self, age: Age, at: float) -> None:
        """Note a top; one that is not newer than the last is left out."""
        if not self.ages or age > self.ages[-1]:
            self.ages.append(age)
            self.times.append(at)

    def succeeded_at(self, age: Age) -> float | None:
        """When a top was no longer the newest; None while it is."""
        position = bisect_right(self.ages, age)
        return self.times[position] if position < len(self.times) else None

    def between(self, begin: float, end: float) -> int:
        """How many were published in a span of time."""
        return sum(begin <= at < end for at in self.times)


def oldest_seconds(report: Report, published: Published) -> float:
    """For how long the most outdated answer of all had been outdated when it arrived."""
    lags = [0.0]
    for shown in report.shown:
        succeeded = published.succeeded_at((shown.epoch, shown.version))
        if succeeded is not None:
            lags.append(shown.last - succeeded)
    return max(lags)


def lifetime_seconds(cache_control: str) -> float:
    """How old an answer may be by its own account: s-maxage and stale-while-revalidate together. ValueError without."""
    found = dict(_SECONDS.findall(cache_control))
    if len(found) != 2:
        raise ValueError(f"s-maxage or stale-while-revalidate is missing: {cache_control!r}")
    return float(sum(map(int, found.values())))


@dataclass(frozen=True)
class Offer:
    """What is asked of the cache: ``rate`` requests a second for ``seconds``, by so many ``connections``."""

    name: str
    rate: float
    seconds: float
    connections: int
    origin_rate: float
    """Requests a second that the origin may see at most."""


@dataclass(frozen=True)
class Result:
    """One run. ``asked`` is how often the origin was, ``changes`` how many tops were published meanwhile."""

    offer: Offer
    report: Report
    asked: int
    changes: int
    oldest: float
    bound: float

    @property
    def correct(self) -> bool:
        """Every request was answered with 200, none with what is too old, and the origin was left in peace."""
        report = self.report
        whole = report.accepted == report.statuses.get("200", 0) >= 0.98 * self.offer.rate * self.offer.seconds
        return (
            whole
            and not report.refused
            and not report.errors
            and self.changes > 0
            and self.oldest <= self.bound
            and self.asked / report.seconds <= self.offer.origin_rate
        )

    def row(self) -> Row:
        """The result as the table and the file have it."""
        report = self.report
        return {
            "name": self.offer.name,
            "offeredPerSecond": self.offer.rate,
            "requestsPerSecond": round(report.requests_per_second, 1),
            "originPerSecond": round(self.asked / report.seconds, 2),
            "changesPerSecond": round(self.changes / report.seconds, 2),
            "p50Ms": round(report.p50_ms, 2),
            "p99Ms": round(report.p99_ms, 2),
            "oldestMs": round(self.oldest * 1000),
            "boundMs": round(self.bound * 1000),
            "correct": self.correct,
        }


def all_correct(rows: Iterable[Row]) -> bool:
    """Whether every row is."""
    found: Sequence[Row] = list(rows)
    return bool(found) and all(row["correct"] for row in found)
