"""The truth in PostgreSQL, as rebuilds and drift checks read it: the only module here that talks to PostgreSQL."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from podium.common.database import outage_mapped
from podium.schema.tables import board_epoch, board_state, current_score
from podium.scoreboard.domain import Ranking
from podium.scoreboard.events import ScoreUpdate

_LOCK_CLASS: Final = 0x706F6469
"""First key of the rebuilds' advisory locks ("podi" in ASCII); the second is a checksum of the board's name."""

CHUNK_ROWS: Final = 256
"""Rows read and applied at once."""


class Building:
    """A rebuild under way: holds the board's lock for as long as its transaction lasts."""

    def __init__(self, connection: AsyncConnection, board: str) -> None:
        self._connection = connection
        self._board = board

    async def next_epoch(self) -> tuple[int, datetime, int]:
        """A new epoch, larger than all before, the primary's time, and the season that runs."""
        season = select(board_state.c.season).where(board_state.c.board == self._board).scalar_subquery()
        query = select(board_epoch.next_value(), func.clock_timestamp(), func.coalesce(season, 1))
        async with outage_mapped("next_epoch"):
            row = (await self._connection.execute(query)).one()
        return int(row[0]), row[1], int(row[2])

    async def scores(self) -> AsyncGenerator[list[ScoreUpdate]]:
        """All users of the board's season in chunks, as they are when this is first called."""
        query = select(
            current_score.c.user_id,
            current_score.c.username,
            current_score.c.score,
            current_score.c.version,
            current_score.c.reached_at,
            current_score.c.hidden,
            current_score.c.last_updated,
        ).where(current_score.c.board == self._board)
        async with outage_mapped("scores"):
            rows = await self._connection.stream(query, execution_options={"yield_per": CHUNK_ROWS})
            async for part in rows.partitions():
                yield [
                    ScoreUpdate(
                        board=self._board,
                        user_id=row.user_id,
                        username=row.username,
                        score=row.score,
                        version=row.version,
                        reached_at=row.reached_at,
                        hidden=row.hidden,
                        accepted_at=row.last_updated,
                    )
                    for row in part
                ]


class ScoreSource:
    """The primary. Methods raise StoreUnavailable("postgres") where it is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def building(self, board: str) -> AsyncIterator[Building | None]:
        """Hold the board's lock; None where another process rebuilds it now."""
        number = zlib.crc32(board.encode()) - 2**31
        async with outage_mapped("building"):
            connection = await self._engine.connect()
        try:
            async with outage_mapped("building"):
                locked = await connection.scalar(select(func.pg_try_advisory_xact_lock(_LOCK_CLASS, number)))
            yield Building(connection, board) if locked else None
        finally:
            await connection.close()

    async def seasons(self) -> dict[str, int]:
        """The running season of each board that was reset."""
        async with outage_mapped("seasons"), self._engine.connect() as connection:
            rows = (await connection.execute(select(board_state.c.board, board_state.c.season))).all()
        return {row.board: row.season for row in rows}

    async def top(self, board: str, limit: int) -> Sequence[Ranking]:
        """The first ``limit`` places by SQL."""
        order: tuple[ColumnElement[object], ...] = (
            current_score.c.score.desc(),
            current_score.c.reached_at,
            current_score.c.user_id,
        )
        query = (
            select(current_score.c.user_id, current_score.c.username, current_score.c.score)
            .where(current_score.c.board == board, ~current_score.c.hidden)
            .order_by(*order)
            .limit(limit)
        )
        async with outage_mapped("top"), self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [Ranking(row.user_id, row.username, row.score, rank) for rank, row in enumerate(rows, 1)]
