"""The truth in PostgreSQL, as rebuilds and drift checks read it: the only module here that talks to PostgreSQL."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from podium.common.database import outage_mapped
from podium.schema.tables import board_epoch, user_score
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

    async def next_epoch(self) -> tuple[int, datetime]:
        """A new epoch, larger than all before, and the primary's time."""
        async with outage_mapped("next_epoch"):
            row = (await self._connection.execute(select(board_epoch.next_value(), func.clock_timestamp()))).one()
        return int(row[0]), row[1]

    async def scores(self) -> AsyncGenerator[list[ScoreUpdate]]:
        """All users of the board in chunks, as they are when this is first called."""
        query = select(
            user_score.c.user_id,
            user_score.c.username,
            user_score.c.score,
            user_score.c.version,
            user_score.c.reached_at,
            user_score.c.hidden,
            user_score.c.last_updated,
        ).where(user_score.c.board == self._board)
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

    async def top(self, board: str, limit: int) -> Sequence[Ranking]:
        """The first ``limit`` places by SQL."""
        order: tuple[ColumnElement[object], ...] = (
            user_score.c.score.desc(),
            user_score.c.reached_at,
            user_score.c.user_id,
        )
        query = (
            select(user_score.c.user_id, user_score.c.username, user_score.c.score)
            .where(user_score.c.board == board, ~user_score.c.hidden)
            .order_by(*order)
            .limit(limit)
        )
        async with outage_mapped("top"), self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        return [Ranking(row.user_id, row.username, row.score, rank) for rank, row in enumerate(rows, 1)]
