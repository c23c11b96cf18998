"""What analytics makes of events: windows, counts, turnover, tables. Pure."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

HOUR: Final = 3600
DAY: Final = 86_400
"""Seconds."""

Granularity = Literal["interval", "hour", "day"]


class MalformedEvent(ValueError):
    """An event that will never be understood, however often it is delivered."""


class _Entry(msgspec.Struct, rename="camel"):
    """One user on one board in ``podium.events.score.updated``; what belongs to an action is null for an admin act."""

    board: str
    user_id: str
    action_id: str | None = None
    action_type: str | None = None
    score_increase: int | None = None
    accepted_at: datetime | None = None
    traceparent: str | None = None


class _Event(msgspec.Struct, rename="camel"):
    event_id: UUID
    updates: list[_Entry]


_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Times that have a window in every time zone."""

_decoder = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class Update:
    """One accepted update on one board."""

    board: str
    user_id: str
    action_type: str
    points: int
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """A commit's updates. ``traceparents`` are those of its updates, each once."""

    event_id: UUID
    updates: tuple[Update, ...]
    traceparents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowCount:
    """What is added to a window."""

    updates: int
    points: int


def parse_event(payload: bytes) -> Event:
    """An event's countable updates; acts of administrators count nothing. Raises MalformedEvent."""
    try:
        event = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"not a score event: {error}") from error
    updates = []
    for entry in event.updates:
        if entry.action_id is None:
            continue
        if entry.accepted_at is None or entry.accepted_at.tzinfo is None or entry.score_increase is None:
            raise MalformedEvent("an update lacks acceptedAt or scoreIncrease")
        if not _EARLIEST <= entry.accepted_at < _LATEST:
            raise MalformedEvent("acceptedAt is out of range")
        if "\0" in entry.board or "\0" in entry.user_id:
            raise MalformedEvent("an id holds a NUL character")
        updates.append(
            Update(entry.board, entry.user_id, entry.action_type or "", entry.score_increase, entry.accepted_at)
        )
    traces = dict.fromkeys(entry.traceparent for entry in event.updates if entry.traceparent)
    return Event(event.event_id, tuple(updates), tuple(traces))


def window_start(moment: datetime, seconds: int) -> datetime:
    """Start of the window of ``seconds`` that holds ``moment``; windows are aligned to the Unix epoch."""
    stamp = int(moment.timestamp())
    return datetime.fromtimestamp(stamp - stamp % seconds, UTC)


def count(updates: Iterable[Update], seconds: int) -> dict[tuple[str, datetime], WindowCount]:
    """Updates and points by (board, window)."""
    counts: dict[tuple[str, datetime], WindowCount] = {}
    for update in updates:
        key = update.board, window_start(update.accepted_at, seconds)
        before = counts.get(key, WindowCount(0, 0))
        counts[key] = WindowCount(before.updates + 1, before.points + update.points)
    return counts


def active(updates: Iterable[Update], spans: Iterable[int]) -> set[tuple[str, int, datetime, str]]:
    """Who was active: (board, span in seconds, window, user)."""
    return {
        (update.board, span, window_start(update.accepted_at, span), update.user_id)
        for update in updates
        for span in spans
    }


def spans(interval: int) -> tuple[int, ...]:
    """The spans, in seconds, for which distinct users are kept."""
    return tuple(sorted({interval, HOUR, DAY}))


def turnover(before: Sequence[str], after: Sequence[str]) -> tuple[list[str], list[str]]:
    """Users who entered and who left the top, in the order of their ranks."""
    return [user for user in after if user not in set(before)], [user for user in before if user not in set(after)]


def default_range(
    start: datetime | None, end: datetime | None, now: datetime, span: timedelta
) -> tuple[datetime, datetime]:
    """The asked range; it ends now and is ``span`` long where it is left open."""
    end = end or now
    return start or end - span, end


SCORE_BOUNDS: Final = (0, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Points: upper bounds of the distribution metric's buckets."""


def linear_bounds(low: int, high: int, buckets: int) -> list[tuple[int, int]]:
    """``buckets`` or fewer ranges of whole points from ``low`` to ``high``, both included, without gaps."""
    width = max(1, -(-(high - low + 1) // buckets))
    return [(lower, min(lower + width - 1, high)) for lower in range(low, high + 1, width)]


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table as CSV (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in columns])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return "'" + value
    return value
