"""Seasons of boards: resets, by an admin or by the schedule.

A reset is one short transaction: the season's number grows, and with it every score of the board is of an ended season
and counts as absent (``podium.common.seasons``). It passes the season's gate when no score update is under way, so
an update counts for one season, never for both or none. ``archive`` then takes the old scores away in small steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from podium.common.database import outage_mapped
from podium.common.problems import StoreUnavailable
from podium.common.schedule import next_time
from podium.common.seasons import GATE

LOCK_TIMEOUT: Final = "2s"
"""How long a reset waits for running updates; others queue behind it for as long."""

LOCK_NOT_AVAILABLE: Final = "55P03"
"""SQLSTATE (PostgreSQL documentation, appendix A)."""

_LOCK_TIMEOUT = text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
_ENSURE = text(
    "INSERT INTO board_state (board, season_started_at) VALUES (:board, NULL) ON CONFLICT (board) DO NOTHING"
)
_LOCK = text("SELECT 1 FROM board_state WHERE board = :board FOR UPDATE")
_PASS_GATE = text("SELECT pg_advisory_xact_lock(:gate)")
_RESET = text(
    """
    WITH ended AS (
        INSERT INTO season (board, season, started_at, ended_at)
        SELECT board, season, season_started_at, clock_timestamp() FROM board_state WHERE board = :board
        RETURNING board, season, ended_at
    )
    UPDATE board_state b SET season = ended.season + 1, season_started_at = ended.ended_at
    FROM ended WHERE b.board = ended.board RETURNING b.season, b.season_started_at
    """
)
_LIST = text("SELECT board, season, season_started_at, due_at FROM board_state WHERE board = ANY(:boards)")
_SCHEDULED = text("SELECT board, schedule, due_at, clock_timestamp() AS now FROM board_state")
_TAKE = text(
    """
    SELECT schedule, due_at, clock_timestamp() AS now FROM board_state WHERE board = :board FOR UPDATE SKIP LOCKED
    """
)
_PLAN = text("UPDATE board_state SET schedule = :schedule, due_at = :due WHERE board = :board")
_NOW = text("SELECT clock_timestamp()")


@dataclass(frozen=True, slots=True)
class Season:
    """The season of a board that runs now.

    ``started_at`` is None for the first one; ``due_at`` is when the schedule ends it, if there is one.
    """

    board: str
    season: int
    started_at: datetime | None
    due_at: datetime | None = None


class BoardStore:
    """Raises StoreUnavailable from every method while PostgreSQL is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def reset(self, board: str) -> Season:
        """Begin a new season.

        Raises StoreUnavailable, too, where updates held the gate for too long: nothing was changed.
        """
        async with outage_mapped("reset"), self._engine.begin() as connection:
            await connection.execute(_ENSURE, {"board": board})
            await connection.execute(_LOCK, {"board": board})
            return await _reset(connection, board)

    async def reset_due(self, schedules: Mapping[str, str | None]) -> list[Season]:
        """Begin the seasons that are due, each once however many processes ask; returns them.

        ``schedules`` has the cron expression of each board, if any. A time that passed while nobody asked is made up
        for, once however many passed; a schedule that is new or was changed begins with its next time, for nobody who
        changes it wants what the old one missed.
        """
        async with outage_mapped("reset_due"), self._engine.connect() as connection:
            known = {row.board: row for row in (await connection.execute(_SCHEDULED))}
        begun = []
        for board, schedule in schedules.items():
            row = known.get(board)
            if row is None and schedule is None:
                continue
            if row is not None and row.schedule == schedule and (row.due_at is None or row.due_at > row.now):
                continue
            season = await self._keep(board, schedule)
            if season is not None:
                begun.append(season)
        return begun

    async def _keep(self, board: str, schedule: str | None) -> Season | None:
        """Bring one board's schedule up to date, and begin its season if it is due; None where it is not."""
        async with outage_mapped("reset_due"), self._engine.begin() as connection:
            await connection.execute(_ENSURE, {"board": board})
            row = (await connection.execute(_TAKE, {"board": board})).one_or_none()
            if row is None:  # another process has it in hand
                return None
            due = row.schedule == schedule and row.due_at is not None and row.due_at <= row.now
            if row.schedule == schedule and not due:  # another process was first
                return None
            season = await _reset(connection, board) if due else None
            now: datetime = (await connection.execute(_NOW)).scalar_one()
            values = {"board": board, "schedule": schedule, "due": next_time(schedule, now) if schedule else None}
            await connection.execute(_PLAN, values)
            return season

    async def seasons(self, boards: Sequence[str]) -> list[Season]:
        """The running season of each board; the first one where none was ever reset."""
        async with outage_mapped("seasons"), self._engine.connect() as connection:
            rows = await connection.execute(_LIST, {"boards": list(boards)})
            known = {row[0]: Season(*row) for row in rows}
        return [known.get(board, Season(board, 1, None)) for board in boards]


async def _reset(connection: AsyncConnection, board: str) -> Season:
    """End the season of a board whose row is locked. The gate comes last, so that it is held for a moment only."""
    try:
        await connection.execute(_LOCK_TIMEOUT)
        await connection.execute(_PASS_GATE, {"gate": GATE})
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise StoreUnavailable("postgres") from error
        raise
    season, started = (await connection.execute(_RESET, {"board": board})).one()
    return Season(board, season, started)
