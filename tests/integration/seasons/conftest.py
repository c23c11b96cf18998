"""The parts that make, fill and read seasons, on real stores."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.analytics.archive import Archive
from podium.analytics.boards import BoardStore
from podium.common.database import make_engine
from podium.common.settings import DatabaseSettings


class Database:
    """What the tests look at, and put into, the database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.boards = BoardStore(engine)
        self.archive = Archive(engine)

    async def run(self, statement: str, **values: Any) -> None:
        """Execute one statement."""
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(statement), values)]

    async def one(self, statement: str, **values: Any) -> Any:
        """The only value of a query."""
        ((value,),) = await self.rows(statement, **values)
        return value

    async def add_scores(self, *rows: tuple[str, int], board: str = "default") -> None:
        """Users with scores of a board's first season, each reached later than the one before."""
        for user, score in rows:
            await self.run(
                """
                INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated,
                  total_actions) VALUES (:board, :user, :user, :score, 1, clock_timestamp(), now(), 1)
                """,
                board=board,
                user=user,
                score=score,
            )

    async def archive_all(self, board: str = "default") -> int:
        """Archive until nothing is left; returns the number of scores moved."""
        moved, place = await self.archive.step(board)
        while place is not None:
            more, place = await self.archive.step(board, place)
            moved += more
        return moved


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The database of one test."""
    engine = make_engine(database_settings, pool_size=12)
    yield Database(engine)
    await engine.dispose()
