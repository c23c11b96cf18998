"""The truth in PostgreSQL, as rebuilds and drift checks read it: with ``scan`` all that talks to PostgreSQL here."""

import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.common.database import CONNECT_TIMEOUT_SECONDS, DRIVER_ERRORS, make_engine, outage_mapped
from podium.common.seasons import first_version
from podium.common.settings import DatabaseSettings
from podium.schema.tables import board_epoch, board_state, outbox, user_score
from podium.scoreboard.domain import Row, micros, row_of
from podium.scoreboard.projector.scan import Scan, open_connection

_REBUILD: Final = 0x706F6469
_DRIFT: Final = 0x706F646A
"""First keys of the advisory locks ("podi", "podj" in ASCII); the second is a checksum of the board's name."""

_KEEP_ALIVE: Final = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}
"""So that the lock of a builder whose machine vanished is free after some ten seconds, not after hours."""


class ScoreSource:
    """Methods raise StoreUnavailable("postgres") where the primary is away."""

    def __init__(self, settings: DatabaseSettings, pool_size: int = 4) -> None:
        self._settings = settings
        self._engine: AsyncEngine = make_engine(settings, pool_size=pool_size)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def rebuilding(self, board: str) -> AsyncIterator[bool]:
        """Hold the board's lock for rebuilds; false where another process has it now."""
        async with self._locked(_REBUILD, board) as locked:
            yield locked

    @asynccontextmanager
    async def checking(self, board: str) -> AsyncIterator[bool]:
        """Hold the board's lock for drift checks; false where another process has it now."""
        async with self._locked(_DRIFT, board) as locked:
            yield locked

    @asynccontextmanager
    async def _locked(self, kind: int, board: str) -> AsyncIterator[bool]:
        """A lock of a session of its own, not of a transaction: a long one would keep VACUUM from its work.

        Not of the pool, either: however many boards are rebuilt at once, none waits for the connection of another.
        """
        settings = self._settings
        async with outage_mapped("lock"):
            connection = await open_connection(settings, settings.host, settings.port, **_KEEP_ALIVE)
        try:
            async with outage_mapped("lock"):
                key = zlib.crc32(board.encode()) - 2**31
                locked = bool(await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", kind, key))
            yield locked
        finally:
            with suppress(OSError, TimeoutError, *DRIVER_ERRORS):  # the end of the session frees it as well
                await connection.execute("SELECT pg_advisory_unlock_all()", timeout=CONNECT_TIMEOUT_SECONDS)
            connection.terminate()

    async def next_epoch(self, board: str) -> tuple[int, datetime, int]:
        """A new epoch, larger than all before, the primary's time, and the season that runs."""
        query = select(board_epoch.next_value(), func.clock_timestamp(), _season(board))
        async with outage_mapped("next_epoch"), self._engine.begin() as connection:
            row = (await connection.execute(query)).one()
        return int(row[0]), row[1], int(row[2])

    async def seasons(self) -> dict[str, int]:
        """The running season of each board that was reset."""
        async with outage_mapped("seasons"), self._engine.connect() as connection:
            rows = (await connection.execute(select(board_state.c.board, board_state.c.season))).all()
        return {row.board: row.season for row in rows}

    async def scan(self, board: str, season: int) -> Scan:
        """All users of a board's season, each as it is now or later.

        They come from a read replica that has replayed what the primary has written until now, or from the primary.
        """
        async with outage_mapped("scan"), self._engine.connect() as connection:
            position = await connection.scalar(text("SELECT pg_current_wal_lsn()::text"))
        return Scan(self._settings, board, season, str(position))

    async def rows(self, board: str, season: int, users: Sequence[str]) -> tuple[dict[str, Row], int] | None:
        """Some users as they are now, and the newest event that waits in the outbox at that very moment (0: none).

        None where the season has ended.
        """
        query = select(
            user_score.c.user_id,
            user_score.c.username,
            user_score.c.score,
            user_score.c.version,
            user_score.c.reached_at,
            user_score.c.hidden,
        ).where(
            user_score.c.board == board, user_score.c.user_id.in_(users), user_score.c.version >= first_version(season)
        )
        async with outage_mapped("rows"), self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            found = (await connection.execute(query)).all()
            newest, now = (await connection.execute(select(func.max(outbox.c.id), _season(board)))).one()
        if now != season:
            return None
        rows = {
            one.user_id: row_of(one.user_id, one.username, one.score, one.version, micros(one.reached_at), one.hidden)
            for one in found
        }
        return rows, int(newest or 0)

    async def sent(self, event: int) -> bool:
        """Whether no event up to ``event`` waits in the outbox."""
        async with outage_mapped("sent"), self._engine.connect() as connection:
            return not await connection.scalar(select(select(outbox.c.id).where(outbox.c.id <= event).exists()))

    async def unknown(self, board: str, season: int, users: Sequence[str]) -> list[str]:
        """Which of ``users`` have no row of the season on the board."""
        query = select(user_score.c.user_id).where(
            user_score.c.board == board, user_score.c.user_id.in_(users), user_score.c.version >= first_version(season)
        )
        async with outage_mapped("unknown"), self._engine.connect() as connection:
            known = set(await connection.scalars(query))
        return [user for user in users if user not in known]


def _season(board: str) -> ColumnElement[int]:
    """The season of a board that runs now; the first where it was never reset."""
    season = select(board_state.c.season).where(board_state.c.board == board).scalar_subquery()
    return func.coalesce(season, 1)


def version_of(rows: Mapping[str, Row], user_id: str) -> int:
    """Version of a user's row; -1 where there is none."""
    row = rows.get(user_id)
    return -1 if row is None else int(row.value.partition("|")[0])
