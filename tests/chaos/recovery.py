"""How long a fault is felt: from the acknowledgements of updates and the moments at which watchers saw them. Pure.

All times are seconds of one monotonic clock.
"""

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WINDOW_SECONDS = 2.0
"""The rate of acknowledgements is that of the last two seconds."""

STEP_SECONDS = 0.1
"""Resolution of a recovery time."""

NORMAL_SHARE = 0.6
"""A rate below this share of the rate before the fault is not normal; that of a small, busy machine varies as much."""

FRESH_SECONDS = 2.0
"""An acknowledged update that a watcher sees later than this was not shown in time."""


CALM_SECONDS = 6.0
"""What went well for so long has recovered; any failure detection of the stores is felt sooner."""


class Span(NamedTuple):
    """From a moment to a later one."""

    begin: float
    end: float


class Shown(NamedTuple):
    """An acknowledged update, and when a watcher saw it or a later one; infinity where it has not yet."""

    acknowledged: float
    seen: float


@dataclass(frozen=True)
class Observation:
    """What was observed around a fault: when updates were acknowledged (ascending), and when they were shown."""

    acknowledged: Sequence[float]
    shown: Sequence[Shown]

    def rate(self, begin: float, end: float) -> float:
        """Acknowledgements a second in the span (begin, end]."""
        count = bisect.bisect_right(self.acknowledged, end) - bisect.bisect_right(self.acknowledged, begin)
        return count / (end - begin)

    def unaccepted(self, begin: float, end: float, normal: float) -> list[Span]:
        """When, within the span, fewer updates were accepted than normally; ``normal`` is the rate before the fault."""
        spans = []
        for step in range(math.floor((end - begin) / STEP_SECONDS) + 1):
            now = begin + step * STEP_SECONDS
            if self.rate(now - WINDOW_SECONDS, now) < NORMAL_SHARE * normal:
                spans.append(Span(max(begin, now - STEP_SECONDS), now))
        return merged(spans)

    def unshown(self, begin: float, end: float) -> list[Span]:
        """When, within the span, an acknowledged update should have been shown and was not."""
        spans = [Span(max(begin, each.acknowledged + FRESH_SECONDS), min(each.seen, end)) for each in self.shown]
        return merged([span for span in spans if span.end > span.begin])


def recovered(troubles: Sequence[Span], begin: float, end: float) -> float | None:
    """The first moment after which nothing was amiss for ``CALM_SECONDS``; None where the span had no such moment."""
    moment = begin
    for trouble in troubles:
        if trouble.begin - moment >= CALM_SECONDS:
            break
        moment = max(moment, trouble.end)
    return moment if end - moment >= CALM_SECONDS else None


def merged(spans: Sequence[Span]) -> list[Span]:
    """The spans in order, those that touch as one."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.begin <= found[-1].end + STEP_SECONDS / 2:
            found[-1] = Span(found[-1].begin, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def sightings(updates: Iterable[tuple[float, int]], seen: Sequence[tuple[float, int]]) -> list[Shown]:
    """When a watcher saw each of a user's updates.

    ``updates`` are the moment and the score of each acknowledgement, ``seen`` the moment and the score of each snapshot
    that had the user in it, in the order of time.
    """
    times: list[float] = []
    scores: list[int] = []
    for moment, score in seen:
        if not scores or score > scores[-1]:
            times.append(moment)
            scores.append(score)
    found = []
    for moment, score in updates:
        index = bisect.bisect_left(scores, score)
        found.append(Shown(moment, times[index] if index < len(times) else math.inf))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least ``share`` of all values at or below it (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
