"""Which partitions the log of actions should have. Pure: no I/O.

A partition covers a range of acceptance times; each begins where the one before ends, so a changed retention changes
the width of the next ones and leaves no gap. The first has no beginning. What has no partition yet is in the default
one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

DAY: Final = timedelta(days=1)

PARTS: Final = 6
"""Partitions a retention is cut into. A look-up of an actionId asks each of them, so they are few; a row outlives the
retention by the width of one, so they are not fewer."""

AHEAD: Final = 2
"""Widths that partitions are made ahead of time, so that maintenance may be away for as long."""

_BOUNDS: Final = re.compile(r"FOR VALUES FROM \((MINVALUE|'([^']+)')\) TO \('([^']+)'\)")
"""How ``pg_get_expr`` writes the range of a partition; the times are in the session's time zone."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition and the acceptance times it covers: from ``start`` (None: the beginning) to before ``end``."""

    name: str
    start: datetime | None
    end: datetime


def width_of(retention: timedelta) -> timedelta:
    """Width of new partitions: whole days, at least one."""
    return max(DAY, retention // PARTS // DAY * DAY)


def parse(name: str, bounds: str) -> Partition | None:
    """A partition from PostgreSQL's description of it; None for the default one. Raises ValueError for another form."""
    if bounds == "DEFAULT":
        return None
    match = _BOUNDS.fullmatch(bounds)
    if match is None:
        raise ValueError(f"partition {name} has bounds of a form that is not ours: {bounds}")
    start = None if match[1] == "MINVALUE" else _time(match[2])
    return Partition(name, start, _time(match[3]))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def named(start: datetime, end: datetime) -> Partition:
    """A new partition; its name tells where it begins. All begin at a midnight, UTC."""
    return Partition(f"action_log_{start:%Y%m%d}", start, end)


def midnight(moment: datetime) -> datetime:
    """The beginning of the day, UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def end_of(partitions: Iterable[Partition], now: datetime) -> datetime:
    """Where the last partition ends; where there is none at all, the beginning of today."""
    return max((partition.end for partition in partitions), default=midnight(now))


def missing(end: datetime, now: datetime, width: timedelta) -> list[Partition]:
    """The partitions to make after ``end``, so that they reach ``AHEAD`` widths beyond ``now``.

    Only for an empty default partition: then nothing came since ``end``, and days that are over need none.
    """
    found = []
    end = max(end, midnight(now))
    while end < now + AHEAD * width:
        found.append(named(end, end + width))
        end += width
    return found


def overdue(end: datetime, newest: datetime, now: datetime, width: timedelta) -> Partition:
    """The one partition that takes over what the default one has collected since ``end``.

    It covers the ``newest`` row there and reaches a width beyond ``now``, so that rows that come meanwhile are in it.
    """
    until = max(newest, now) + width
    widths = -((end - until) // width)
    return named(end, end + widths * width)


def expired(partitions: Iterable[Partition], now: datetime, retention: timedelta) -> list[Partition]:
    """Partitions of which every row is older than the retention."""
    return [partition for partition in partitions if partition.end <= now - retention]
