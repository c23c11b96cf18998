"""Counts and windows in PostgreSQL. An event counts in the transaction that notes its id, so it counts once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.analytics.domain import DAY, HOUR, Event, active, count, spans, turnover, window_start
from podium.common.database import outage_mapped

EVENT_KEPT: Final = timedelta(days=8)
"""How long counted event ids are kept: longer than the stream keeps events."""

USERS_KEPT: Final = {"interval": timedelta(hours=3), "hour": timedelta(days=8), "day": timedelta(days=400)}
"""How long it is known who was active in a window; the windows' counts stay."""

_NEW_EVENTS = text(
    """
    INSERT INTO analytics_event (event_id) SELECT id FROM unnest(CAST(:ids AS uuid[])) AS id ORDER BY id
    ON CONFLICT DO NOTHING RETURNING event_id
    """
)
_USERS = text(
    """
    INSERT INTO analytics_user (board, span_seconds, window_start, user_id)
    SELECT * FROM unnest(CAST(:boards AS text[]), CAST(:spans AS int[]), CAST(:starts AS timestamptz[]),
      CAST(:users AS text[])) AS new (board, span_seconds, window_start, user_id)
    ON CONFLICT DO NOTHING RETURNING board, span_seconds, window_start
    """
)
_ADD = text(
    """
    INSERT INTO scoreboard_analytics AS a
      (board, window_start, window_end, updates, active_users, points, total_users)
    SELECT board, window_start, window_start + make_interval(secs => :seconds), updates, active_users, points, 0
    FROM unnest(CAST(:boards AS text[]), CAST(:starts AS timestamptz[]), CAST(:updates AS bigint[]),
      CAST(:active AS bigint[]), CAST(:points AS bigint[]))
      AS new (board, window_start, updates, active_users, points)
    ON CONFLICT (board, window_start) DO UPDATE SET updates = a.updates + excluded.updates,
      active_users = a.active_users + excluded.active_users, points = a.points + excluded.points
    """
)
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('podium/analytics/' || :board, 0))")
_CLOSED = text("SELECT closed_at IS NOT NULL FROM scoreboard_analytics WHERE board = :board AND window_start = :start")
_BEFORE = text(
    """
    SELECT top FROM scoreboard_analytics
    WHERE board = :board AND window_start < :start AND closed_at IS NOT NULL ORDER BY window_start DESC LIMIT 1
    """
)
_STATE = text(
    """
    SELECT count(*), max(score), CAST(round(avg(score)) AS bigint) FROM current_score
    WHERE board = :board AND NOT hidden
    """
)
_TOP = text(
    """
    SELECT user_id, username, score FROM current_score WHERE board = :board AND NOT hidden
    ORDER BY score DESC, reached_at, user_id LIMIT :top
    """
)
_CLOSE = text(
    """
    INSERT INTO scoreboard_analytics AS a (board, window_start, window_end, updates, active_users, points,
      total_users, top_score, mean_score, top, turnover, closed_at)
    VALUES (:board, :start, :end, 0, 0, 0, :users, :top_score, :mean, CAST(:top AS jsonb), :turnover,
      clock_timestamp())
    ON CONFLICT (board, window_start) DO UPDATE SET total_users = excluded.total_users,
      top_score = excluded.top_score, mean_score = excluded.mean_score, top = excluded.top,
      turnover = excluded.turnover, closed_at = excluded.closed_at
    """
)
_FORGET_EVENTS = text("DELETE FROM analytics_event WHERE counted_at < clock_timestamp() - CAST(:kept AS interval)")
_FORGET_USERS = text(
    """
    DELETE FROM analytics_user WHERE span_seconds = ANY(:spans)
      AND window_start < clock_timestamp() - CAST(:kept AS interval)
    """
)
_OUTBOX_AGE = text("SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0) FROM outbox")

# Who is connected is for every user to see, the state of the connection is not.
_STANDBYS = text("SELECT count(*) FROM pg_stat_replication")

_LOG_AHEAD = text(
    r"""
    WITH partition AS (
      SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \('([^']+)'\)$$))[1]::timestamptz AS until
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'action_log'::regclass
    )
    SELECT coalesce(greatest(extract(epoch FROM max(until) - clock_timestamp()), 0), 0) FROM partition
    """
)


@dataclass(frozen=True, slots=True)
class BoardSpec:
    """A board and the length of its top."""

    name: str
    top: int


class AnalyticsStore:
    """Raises StoreUnavailable from every method while PostgreSQL is away. ``interval`` in seconds."""

    def __init__(self, engine: AsyncEngine, interval: int) -> None:
        self._engine = engine
        self._interval = interval

    async def count(self, events: Sequence[Event]) -> list[Event]:
        """Count events that were not counted before, in one transaction; returns those."""
        by_id = {event.event_id: event for event in events}
        async with outage_mapped("count"), self._engine.begin() as connection:
            rows = await connection.execute(_NEW_EVENTS, {"ids": list(by_id)})
            fresh = [by_id[event_id] for (event_id,) in rows]
            updates = [update for event in fresh for update in event.updates]
            if not updates:
                return fresh
            # Sorted, so that two pods wait for each other and never in a circle.
            users = sorted(active(updates, spans(self._interval)))
            boards, lengths, starts, ids = zip(*users, strict=True)
            added: dict[tuple[str, datetime], int] = {}
            for board, span, start in await connection.execute(
                _USERS, {"boards": boards, "spans": lengths, "starts": starts, "users": ids}
            ):
                if span == self._interval:
                    added[board, start] = added.get((board, start), 0) + 1
            windows = sorted(count(updates, self._interval).items())
            await connection.execute(
                _ADD,
                {
                    "seconds": float(self._interval),
                    "boards": [board for (board, _), _ in windows],
                    "starts": [start for (_, start), _ in windows],
                    "updates": [counted.updates for _, counted in windows],
                    "active": [added.get(key, 0) for key, _ in windows],
                    "points": [counted.points for _, counted in windows],
                },
            )
            return fresh

    async def close_window(self, board: BoardSpec, lag: timedelta) -> bool:
        """Take the board's state for the last window that ended ``lag`` ago; false if that was done.

        Exactly one pod does it. Updates that are counted later still add to the window.
        """
        async with outage_mapped("close_window"), self._engine.begin() as connection:
            now: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
            end = window_start(now - lag, self._interval)
            start = end - timedelta(seconds=self._interval)
            key: dict[str, Any] = {"board": board.name, "start": start}
            if (await connection.execute(_CLOSED, key)).scalar_one_or_none():
                return False
            if not (await connection.execute(_TRY_LOCK, {"board": board.name})).scalar_one():
                return False
            if (await connection.execute(_CLOSED, key)).scalar_one_or_none():
                return False
            users, top_score, mean = (await connection.execute(_STATE, {"board": board.name})).one()
            ranked = (await connection.execute(_TOP, {"board": board.name, "top": board.top})).all()
            before = (await connection.execute(_BEFORE, key)).scalar_one_or_none() or []
            entered, _ = turnover([entry["userId"] for entry in before], [row[0] for row in ranked])
            top = [{"userId": row[0], "username": row[1], "score": row[2]} for row in ranked]
            values = {
                "users": users, "top_score": top_score, "mean": mean, "end": end, "turnover": len(entered),
                "top": msgspec.json.encode(top).decode(),
            }  # fmt: skip
            await connection.execute(_CLOSE, {**key, **values})
            return True

    async def forget(self) -> None:
        """Delete what is only needed for a time."""
        async with outage_mapped("forget"), self._engine.begin() as connection:
            await connection.execute(_FORGET_EVENTS, {"kept": EVENT_KEPT})
            for name, lengths in (("hour", [HOUR]), ("day", [DAY])):
                await connection.execute(_FORGET_USERS, {"spans": lengths, "kept": USERS_KEPT[name]})
            if self._interval not in {HOUR, DAY}:
                await connection.execute(_FORGET_USERS, {"spans": [self._interval], "kept": USERS_KEPT["interval"]})

    async def outbox_age(self) -> float:
        """Age of the oldest unsent event in seconds, 0 for an empty outbox."""
        async with outage_mapped("outbox_age"), self._engine.connect() as connection:
            return float((await connection.execute(_OUTBOX_AGE)).scalar_one())

    async def standbys(self) -> int:
        """Standbys that are connected to the primary now."""
        async with outage_mapped("standbys"), self._engine.connect() as connection:
            return int((await connection.execute(_STANDBYS)).scalar_one())

    async def log_ahead(self) -> float:
        """Seconds from now for which the log of actions has partitions, 0 where there is none."""
        async with outage_mapped("log_ahead"), self._engine.connect() as connection:
            return float((await connection.execute(_LOG_AHEAD)).scalar_one())

    async def ping(self) -> None:
        """Reach the primary once."""
        async with outage_mapped("ping"), self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
