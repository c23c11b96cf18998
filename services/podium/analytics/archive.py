"""The archive of ended seasons: filled after a reset, and thinned out, both in steps that hold no lock for long.

Where several processes run, one of them makes each step (an advisory lock of its transaction), and no state is kept
between the steps but a place to go on from, which may be lost.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from podium.common.database import outage_mapped
from podium.common.seasons import SEASON_BITS

ROWS_LOOKED_AT: Final = 1_000
"""Scores that one step of archiving looks at; it moves those of ended seasons."""

ROWS_DELETED: Final = 5_000
"""Scores that one step of thinning out deletes."""

_NOT_FLUSHED = text("SET LOCAL synchronous_commit TO off")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('podium/archive/' || :board, 0))")
_UNFINISHED = text("SELECT max(season) FROM season WHERE board = :board AND players IS NULL")
_ARCHIVE = text(
    f"""
    WITH floor AS (
        SELECT (season - 1)::bigint << {SEASON_BITS} AS version FROM board_state WHERE board = :board
    ), part AS MATERIALIZED (
        SELECT user_id, version FROM user_score WHERE board = :board AND user_id > :after
        ORDER BY user_id LIMIT :rows
    ), ended AS MATERIALIZED (
        SELECT s.user_id FROM user_score s JOIN part ON part.user_id = s.user_id
        WHERE s.board = :board AND part.version < (SELECT version FROM floor)
          AND s.version < (SELECT version FROM floor)
        FOR UPDATE OF s SKIP LOCKED
    ), moved AS (
        DELETE FROM user_score s USING ended WHERE s.board = :board AND s.user_id = ended.user_id RETURNING s.*
    ), kept AS (
        INSERT INTO season_score (board, season, user_id, username, score, reached_at, total_actions, hidden)
        SELECT board, (version >> {SEASON_BITS}) + 1, user_id, username, score, reached_at, total_actions, hidden
        FROM moved
    )
    SELECT (SELECT max(user_id) FROM part) AS last, (SELECT count(*) FROM part) AS looked_at,
      (SELECT count(*) FROM part WHERE version < (SELECT version FROM floor)) AS ended,
      (SELECT count(*) FROM moved) AS moved
    """  # noqa: S608
)
"""Rows that an update has locked just now are passed over: that update moves them itself."""

_FINISH = text(
    """
    UPDATE season s SET players =
      (SELECT count(*) FROM season_score a WHERE a.board = s.board AND a.season = s.season)
    WHERE s.board = :board AND s.players IS NULL AND s.season <= :season
    """
)
_OLD = text(
    """
    UPDATE season SET purging = true
    WHERE board = :board AND NOT purging AND players IS NOT NULL
      AND season < (SELECT season FROM board_state WHERE board = :board) - :retain
    """
)
_PURGING = text("SELECT min(season) FROM season WHERE board = :board AND purging")
_DELETE = text(
    """
    DELETE FROM season_score WHERE board = :board AND season = :season AND user_id IN (
      SELECT user_id FROM season_score WHERE board = :board AND season = :season LIMIT :rows)
    """
)
_GONE = text("DELETE FROM season WHERE board = :board AND season = :season")


@dataclass(frozen=True, slots=True)
class Place:
    """Where archiving a board goes on.

    ``season`` was the newest ended one at the start; ``clean`` says that no score of an ended one was passed over.
    """

    season: int
    after: str = ""
    clean: bool = True


class Archive:
    """Raises StoreUnavailable from every method while PostgreSQL is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def step(self, board: str, place: Place | None = None) -> tuple[int, Place | None]:
        """Archive some scores of ended seasons; returns their number, and where to go on or None where nothing is left.

        Without a ``place`` it begins at the start.
        """
        async with outage_mapped("archive"), self._engine.begin() as connection:
            if not await _alone(connection, board):
                return 0, None
            season = await connection.scalar(_UNFINISHED, {"board": board})
            if season is None:
                return 0, None
            place = place or Place(season)
            values = {"board": board, "after": place.after, "rows": ROWS_LOOKED_AT}
            row: Any = (await connection.execute(_ARCHIVE, values)).one()
            clean = place.clean and row.moved == row.ended
            if row.looked_at == ROWS_LOOKED_AT:
                return row.moved, Place(place.season, row.last, clean)
            if clean:
                await connection.execute(_FINISH, {"board": board, "season": place.season})
            return row.moved, None if clean and season == place.season else Place(season)

    async def thin_out(self, board: str, retain: int) -> tuple[int, bool]:
        """Delete some scores of seasons beyond the newest ``retain``; returns how many, and whether more are left."""
        async with outage_mapped("thin_out"), self._engine.begin() as connection:
            if not await _alone(connection, board):
                return 0, False
            await connection.execute(_OLD, {"board": board, "retain": retain})
            season = await connection.scalar(_PURGING, {"board": board})
            if season is None:
                return 0, False
            values = {"board": board, "season": season, "rows": ROWS_DELETED}
            deleted = (await connection.execute(_DELETE, values)).rowcount
            if deleted < ROWS_DELETED:
                await connection.execute(_GONE, {"board": board, "season": season})
            return deleted, True


async def _alone(connection: AsyncConnection, board: str) -> bool:
    """Whether this transaction may make the board's step.

    It is not flushed: should a crash undo it, it is made again, and what is committed after it makes it durable, too.
    """
    await connection.execute(_NOT_FLUSHED)
    return bool(await connection.scalar(_TRY_LOCK, {"board": board}))
