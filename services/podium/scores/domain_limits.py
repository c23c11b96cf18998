"""Exact sliding-window limits. Pure; all times are integer microseconds, all lists ascending."""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a user stands under a limit: ``remaining`` acceptances, and ``reset`` µs until one more is freed."""

    limit: Limit
    remaining: int
    reset: int


def within(times: Sequence[int], window: int, now: int) -> list[int]:
    """Those of ``times`` that still count at ``now``: a time leaves exactly ``window`` after it entered."""
    return [time for time in times if time > now - window]


def standing(limit: Limit, times: Sequence[int], now: int) -> Standing:
    """Where a user with these acceptance ``times`` stands at ``now``.

    With none remaining, ``reset`` is how long to wait for the next acceptance. More times than ``count`` can be in the
    window after the limit was lowered: then enough of them have to leave.
    """
    counted = within(times, limit.window, now)
    remaining = max(0, limit.count - len(counted))
    if not counted:
        return Standing(limit, remaining, 0)
    leaves_next = counted[0] if remaining else counted[-limit.count]
    return Standing(limit, remaining, leaves_next + limit.window - now)
