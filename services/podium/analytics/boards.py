"""Resetting a board: the season's scores are archived and every user starts again, in one transaction.

The rows stay, with zero points, hidden and with a larger version: a version only ever grows, so an event of the old
season that comes late changes nothing, and a user is back in the ranking with the first action of the new season.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.common.database import outage_mapped
from podium.common.outbox import ScoreState, Written, write_states
from podium.common.problems import StoreUnavailable

ROWS_PER_STATEMENT: Final = 5_000
"""Rows changed by one statement, to stay far below the statement time-out."""

LOCK_TIMEOUT: Final = "3s"
"""How long the reset waits for running updates; others queue behind it for as long."""

LOCK_NOT_AVAILABLE: Final = "55P03"
"""SQLSTATE (PostgreSQL documentation, appendix A)."""

_LOCK_TIMEOUT = text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
# Every update begins by locking its player, so nobody has read a score of the old season when this lock is held.
_LOCK = text("LOCK TABLE player IN EXCLUSIVE MODE")
_SEASON = text(
    """
    INSERT INTO board_state (board, season, season_started_at) VALUES (:board, 2, clock_timestamp())
    ON CONFLICT (board) DO UPDATE SET season = board_state.season + 1, season_started_at = clock_timestamp()
    RETURNING season, season_started_at
    """
)
_ARCHIVE = text(
    """
    WITH chunk AS (
        SELECT user_id FROM user_score WHERE board = :board AND user_id > :after AND total_actions > 0
        ORDER BY user_id LIMIT :limit
    ), archived AS (
        INSERT INTO season_score (board, season, user_id, username, score, reached_at, total_actions, hidden)
        SELECT board, :season, user_id, username, score, reached_at, total_actions, hidden
        FROM user_score WHERE board = :board AND user_id IN (SELECT user_id FROM chunk)
    )
    UPDATE user_score SET score = 0, total_actions = 0, hidden = true, version = version + 1,
      reached_at = :now, last_updated = :now
    WHERE board = :board AND user_id IN (SELECT user_id FROM chunk)
    RETURNING board, user_id, username, score, version, reached_at, hidden, total_actions
    """
)
_LIST = text("SELECT board, season, season_started_at FROM board_state WHERE board = ANY(:boards)")


@dataclass(frozen=True, slots=True)
class Season:
    """The season of a board that runs now."""

    board: str
    season: int
    started_at: datetime | None


class BoardStore:
    """Raises StoreUnavailable from every method while PostgreSQL is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def reset(self, board: str) -> tuple[Season, int, list[Written]]:
        """Begin a new season; returns it, the number of users archived, and the events to send.

        Raises StoreUnavailable, too, where updates held the table for too long: nothing was changed.
        """
        written: list[Written] = []
        users, after = 0, ""
        try:
            async with outage_mapped("reset"), self.engine.begin() as connection:
                await connection.execute(_LOCK_TIMEOUT)
                await connection.execute(_LOCK)
                season, now = (await connection.execute(_SEASON, {"board": board})).one()
                while True:
                    values = {
                        "board": board, "season": season - 1, "after": after, "now": now, "limit": ROWS_PER_STATEMENT
                    }  # fmt: skip
                    rows = (await connection.execute(_ARCHIVE, values)).mappings().all()
                    if not rows:
                        break
                    states = sorted((ScoreState(**row) for row in rows), key=lambda state: state.user_id)
                    written += await write_states(connection, states)
                    users, after = users + len(states), states[-1].user_id
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
                raise StoreUnavailable("postgres") from error
            raise
        return Season(board, season, now), users, written

    async def seasons(self, boards: Sequence[str]) -> list[Season]:
        """The running season of each board; the first one where none was ever reset."""
        async with outage_mapped("seasons"), self.engine.connect() as connection:
            rows = await connection.execute(_LIST, {"boards": list(boards)})
            known = {board: Season(board, season, started) for board, season, started in rows}
        return [known.get(board, Season(board, 1, None)) for board in boards]
