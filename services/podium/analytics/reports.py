"""What analytics answers, read from PostgreSQL (a read replica where there is one)."""

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.analytics.domain import DAY, HOUR, Granularity, linear_bounds, turnover
from podium.common.database import outage_mapped
from podium.common.rules import Tier

Row = dict[str, Any]

MAX_POINTS: Final = 5_000
"""Rows of one time series or report."""

_KNOWN = text("SELECT EXISTS (SELECT 1 FROM user_score WHERE board = :board)")
_NOW = text("SELECT clock_timestamp()")
_STATE = text(
    """
    SELECT count(*), max(score), CAST(round(avg(score)) AS bigint), max(last_updated)
    FROM current_score WHERE board = :board AND NOT hidden
    """
)
_SUMS = text(
    """
    SELECT coalesce(sum(updates), 0), coalesce(sum(points), 0)
    FROM scoreboard_analytics WHERE board = :board AND window_end > :since
    """
)
_ACTIVE = text(
    """
    SELECT count(DISTINCT user_id) FROM analytics_user
    WHERE board = :board AND span_seconds = :span
      AND window_start > CAST(:since AS timestamptz) - make_interval(secs => :span)
    """
)
_SERIES = text(
    """
    SELECT window_start, window_end, updates, active_users, points, total_users, top_score, mean_score, turnover,
      closed_at IS NOT NULL AS closed
    FROM scoreboard_analytics WHERE board = :board AND window_start >= :from AND window_start < :to
    ORDER BY window_start LIMIT :limit
    """
)
_COARSE = text(
    """
    WITH grouped AS (
        SELECT date_bin(make_interval(secs => :span), window_start, 'epoch') AS start, sum(updates) AS updates,
          sum(points) AS points, sum(turnover) AS turnover,
          (array_agg(total_users ORDER BY window_start DESC) FILTER (WHERE closed_at IS NOT NULL))[1] AS total_users,
          (array_agg(top_score ORDER BY window_start DESC) FILTER (WHERE closed_at IS NOT NULL))[1] AS top_score,
          (array_agg(mean_score ORDER BY window_start DESC) FILTER (WHERE closed_at IS NOT NULL))[1] AS mean_score,
          bool_and(closed_at IS NOT NULL) AS closed
        FROM scoreboard_analytics WHERE board = :board AND window_start >= :from AND window_start < :to GROUP BY 1
    )
    SELECT start AS window_start, start + make_interval(secs => :span) AS window_end,
      CAST(updates AS bigint) AS updates,
      (SELECT count(*) FROM analytics_user u
        WHERE u.board = :board AND u.span_seconds = :span AND u.window_start = grouped.start) AS active_users,
      CAST(points AS bigint) AS points, coalesce(total_users, 0) AS total_users, top_score, mean_score,
      CAST(turnover AS int) AS turnover, closed
    FROM grouped ORDER BY start LIMIT :limit
    """
)
_BOUNDS = text("SELECT min(score), max(score) FROM current_score WHERE board = :board AND NOT hidden")
_BUCKETS = text(
    """
    SELECT CAST((score - :low) / :width AS bigint) AS bucket, count(*) FROM current_score
    WHERE board = :board AND NOT hidden GROUP BY 1
    """
)
_SPREAD = text(
    """
    SELECT width_bucket(score, CAST(:steps AS bigint[])) AS reached, count(*) FROM current_score
    WHERE board = :board AND NOT hidden GROUP BY 1
    """
)
"""Users by the number of ``steps`` (ascending) that their scores have reached: one look through the board for all."""

_QUANTILES = text(
    """
    SELECT percentile_disc(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY score)
    FROM current_score WHERE board = :board AND NOT hidden
    """
)
_TOPS = text(
    """
    SELECT window_start, window_end, top FROM scoreboard_analytics
    WHERE board = :board AND window_start >= :from AND window_start < :to AND closed_at IS NOT NULL
    ORDER BY window_start LIMIT :limit
    """
)
_PLAYERS = text(
    """
    SELECT row_number() OVER (ORDER BY score DESC, reached_at, user_id) AS rank, user_id, username, score,
      total_actions, reached_at, last_updated
    FROM current_score WHERE board = :board AND NOT hidden ORDER BY score DESC, reached_at, user_id LIMIT :limit
    """
)
_ACTIONS = text(
    """
    SELECT action_type, count(*) AS updates, count(DISTINCT user_id) AS users,
      CAST(sum(score_increase) AS bigint) AS points, min(accepted_at) AS first_at, max(accepted_at) AS last_at
    FROM action_log WHERE accepted_at >= :from AND accepted_at < :to
    GROUP BY action_type ORDER BY updates DESC, action_type
    """
)


class ReportStore:
    """Raises StoreUnavailable from every method while PostgreSQL is away. ``interval`` in seconds."""

    def __init__(self, engine: AsyncEngine, tiers: Sequence[Tier], interval: int) -> None:
        self._engine = engine
        self._tiers = tuple(tiers)
        self._interval = interval

    async def knows(self, board: str) -> bool:
        """Whether the board has scores, though the resource may not name it any more."""
        async with outage_mapped("report"), self._engine.connect() as connection:
            return bool((await connection.execute(_KNOWN, {"board": board})).scalar_one())

    async def summary(self, board: str) -> Row:
        """The board now, and its last minute, hour and day."""
        async with outage_mapped("report"), self._engine.connect() as connection:
            now: datetime = (await connection.execute(_NOW)).scalar_one()
            users, top_score, mean, last = (await connection.execute(_STATE, {"board": board})).one()
            activity = []
            for name, span, length in (
                ("5m", self._interval, 300),
                ("1h", self._interval, HOUR),
                ("24h", HOUR, DAY),
            ):
                since = now - timedelta(seconds=length)
                updates, points = (await connection.execute(_SUMS, {"board": board, "since": since})).one()
                values = {"board": board, "span": span, "since": since}
                active = (await connection.execute(_ACTIVE, values)).scalar_one()
                activity.append(
                    {
                        "window": name,
                        "updates": int(updates),
                        "points": int(points),
                        "active_users": active,
                        "updates_per_second": round(int(updates) / length, 3),
                    }
                )
        return {
            "board": board,
            "as_of": now,
            "total_users": users,
            "top_score": top_score,
            "mean_score": mean,
            "last_updated": last,
            "activity": activity,
            "tiers": await self.tiers(board),
        }

    async def active_users(self, board: str, seconds: int) -> int:
        """Distinct users in the last ``seconds``, to the length of a window."""
        async with outage_mapped("report"), self._engine.connect() as connection:
            now: datetime = (await connection.execute(_NOW)).scalar_one()
            values = {"board": board, "span": self._interval, "since": now - timedelta(seconds=seconds)}
            return int((await connection.execute(_ACTIVE, values)).scalar_one())

    async def state(self, board: str) -> tuple[int, int | None]:
        """Users in the ranking and the highest score."""
        async with outage_mapped("report"), self._engine.connect() as connection:
            row: Any = (await connection.execute(_STATE, {"board": board})).one()
        return row[0], row[1]

    async def scores_at_most(self, board: str, bounds: Sequence[int]) -> dict[int, int]:
        """Users whose score is at most each bound."""
        ascending = sorted(bounds)
        below = itertools.accumulate(await self._spread(board, [bound + 1 for bound in ascending]))
        return dict(zip(ascending, below, strict=False))  # the last one counts those above all bounds, too

    async def tiers(self, board: str) -> list[Row]:
        """Users in each tier."""
        ascending = sorted(self._tiers, key=lambda one: one.min_score)
        _, *users = await self._spread(board, [tier.min_score for tier in ascending])
        return [
            {"name": tier.name, "min_score": tier.min_score, "users": count}
            for tier, count in zip(ascending, users, strict=True)
        ]

    async def _spread(self, board: str, steps: Sequence[int]) -> list[int]:
        """Users below the first of the ascending ``steps``, then for each step those between it and the next."""
        if not steps:
            return [0]
        async with outage_mapped("report"), self._engine.connect() as connection:
            rows = await connection.execute(_SPREAD, {"board": board, "steps": list(steps)})
            found = {row[0]: row[1] for row in rows}
        return [found.get(reached, 0) for reached in range(len(steps) + 1)]

    async def series(self, board: str, start: datetime, end: datetime, granularity: Granularity) -> list[Row]:
        """ScoreboardAnalytics in the range, one row a window, an hour or a day."""
        values: Row = {"board": board, "from": start, "to": end, "limit": MAX_POINTS}
        async with outage_mapped("report"), self._engine.connect() as connection:
            if granularity == "interval":
                rows = await connection.execute(_SERIES, values)
            else:
                rows = await connection.execute(_COARSE, {**values, "span": HOUR if granularity == "hour" else DAY})
            return [dict(row) for row in rows.mappings()]

    async def distribution(self, board: str, buckets: int) -> tuple[list[Row], list[int | None]]:
        """Users by score in ranges of equal width, and the quantiles 0.5, 0.9 and 0.99."""
        async with outage_mapped("report"), self._engine.connect() as connection:
            bounds: Any = (await connection.execute(_BOUNDS, {"board": board})).one()
            low, high = bounds
            if low is None:
                return [], [None, None, None]
            ranges = linear_bounds(low, high, buckets)
            width = ranges[0][1] - ranges[0][0] + 1
            rows = await connection.execute(_BUCKETS, {"board": board, "low": low, "width": width})
            users = {row[0]: row[1] for row in rows}
            quantiles = (await connection.execute(_QUANTILES, {"board": board})).scalar_one()
        rows_out = [
            {"from_score": lower, "to_score": upper, "users": users.get(index, 0)}
            for index, (lower, upper) in enumerate(ranges)
        ]
        return rows_out, list(quantiles or [None, None, None])

    async def turnover(self, board: str, start: datetime, end: datetime) -> list[Row]:
        """Who entered and who left the top from one closed window to the next."""
        values = {"board": board, "from": start, "to": end, "limit": MAX_POINTS}
        async with outage_mapped("report"), self._engine.connect() as connection:
            rows = (await connection.execute(_TOPS, values)).all()
        found: list[Row] = []
        before: list[str] | None = None
        for window_start, window_end, top in rows:
            users = [entry["userId"] for entry in top]
            entered, left = turnover(before if before is not None else users, users)
            found.append({"window_start": window_start, "window_end": window_end, "entered": entered, "left": left})
            before = users
        return found

    async def players(self, board: str, limit: int) -> list[Row]:
        """The ranking with what belongs to each player."""
        async with outage_mapped("report"), self._engine.connect() as connection:
            rows = await connection.execute(_PLAYERS, {"board": board, "limit": limit})
            return [dict(row) for row in rows.mappings()]

    async def actions(self, start: datetime, end: datetime) -> list[Row]:
        """Accepted updates by type of action, over all boards."""
        async with outage_mapped("report"), self._engine.connect() as connection:
            rows = await connection.execute(_ACTIONS, {"from": start, "to": end})
            return [dict(row) for row in rows.mappings()]
