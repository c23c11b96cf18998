"""Exact sliding-window limits. Pure; all times are integer microseconds, all lists ascending."""

from bisect import bisect_right
from dataclasses import dataclass

import msgspec

SECOND = 1_000_000
"""One second in microseconds."""

MINUTE = 60 * SECOND
"""One minute in microseconds."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` acceptances in any window of ``window`` microseconds. ``policy`` names it to clients."""

    policy: str
    count: int
    window: int


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a user stands under a limit: ``remaining`` acceptances, and ``reset`` µs until one more is freed."""

    limit: Limit
    remaining: int
    reset: int


def within(times: list[int], window: int, now: int) -> list[int]:
    """Those of ``times`` that still count at ``now``: a time leaves exactly ``window`` after it entered."""
    return times[bisect_right(times, now - window) :]


def standing(limit: Limit, times: list[int], now: int) -> Standing:
    """Where a user with these acceptance ``times`` stands at ``now``.

    With none remaining, ``reset`` is how long to wait for the next acceptance. More times than ``count`` can be in the
    window after the limit was lowered: then enough of them have to leave.
    """
    oldest = bisect_right(times, now - limit.window)
    counted = len(times) - oldest
    if not counted:
        return Standing(limit, limit.count, 0)
    remaining = max(0, limit.count - counted)
    leaves_next = times[oldest] if remaining else times[-limit.count]
    return Standing(limit, remaining, leaves_next + limit.window - now)
