"""A walk through all users of a board's season, in bounded memory, without a long transaction.

Each step reads the next users by the primary key, so no snapshot is held (VACUUM goes on, a replica cancels nothing),
and a walk whose connection breaks goes on where it was. That a row may be newer than the walk's beginning is no harm:
every row carries its version. That none is older is what the position in the write-ahead log is for: whatever the
primary had committed before it was noted, the replica has replayed before it is read.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import structlog

from podium.common.database import CONNECT_TIMEOUT_SECONDS, DRIVER_ERRORS, is_outage
from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.seasons import first_version
from podium.common.settings import DatabaseSettings
from podium.scoreboard.domain import Row, row_of, timestamp

STEP_ROWS: Final = 4096
"""Rows of one step."""

CHUNK_ROWS: Final = 512
"""Rows that are handed over at once."""

STEP_SECONDS: Final = 30.0
"""Bound of one step, generous for a table that is read from disk."""

CATCH_UP_SECONDS: Final = 10.0
"""How long a replica may take to replay what the primary has written; then the primary is read."""

CATCH_UP_LOOK_SECONDS: Final = 0.05

BREAKS: Final = 3
"""How often a walk goes on after a broken connection."""

_PG_EPOCH: Final = 946_684_800_000_000
"""2000-01-01, where PostgreSQL's binary times begin, in Unix microseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NEXT: Final = """
WITH page AS MATERIALIZED (
  SELECT user_id, username, score, version, reached_at, hidden, last_updated FROM user_score
  WHERE board = $1 AND user_id > $2 ORDER BY user_id LIMIT $3
)
SELECT * FROM page WHERE version >= $4 AND version < $5
UNION ALL SELECT max(user_id), NULL, NULL, NULL, NULL, NULL, NULL FROM page
"""
"""The next users of a season, and a last row that says how far this step came: rows of ended seasons lie between."""

_CAUGHT_UP: Final = "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= $1::text::pg_lsn"

_log = structlog.get_logger("podium.projector.scan")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some users of a board in the order of their ids; ``newest`` is the latest change among them."""

    users: list[str]
    rows: list[Row]
    newest: str


class Scan:
    """A walk that sees everything the primary had written up to ``position`` (a place in its write-ahead log)."""

    def __init__(self, settings: DatabaseSettings, board: str, season: int, position: str) -> None:
        self._settings = settings
        self._board = board
        self._versions = first_version(season), first_version(season + 1)
        self._position = position
        self.from_replica = False
        """Whether a read replica is read."""

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """All users of the board; the next ones are fetched while the caller handles some.

        Raises StoreUnavailable("postgres").
        """
        breaks, after = 0, ""
        connection: asyncpg.Connection[Any] | None = None
        ahead: asyncio.Task[list[asyncpg.Record]] | None = None
        try:
            while True:
                try:
                    if connection is None:
                        connection = await self._connect(replica=breaks == 0)
                        ahead = None
                    found = await (ahead or self._fetch(connection, after))
                except (OSError, TimeoutError, *DRIVER_ERRORS) as error:
                    breaks += 1
                    if breaks > BREAKS or not (is_outage(error) or self.from_replica):
                        STORE_FAILURES.labels("postgres", "scan").inc()
                        raise StoreUnavailable("postgres") from error
                    _log.warning("the walk goes on with another connection", board=self._board, error=str(error))
                    if connection is not None:
                        connection.terminate()
                    connection = ahead = None
                    continue
                after = found.pop()["user_id"]
                if after is None:
                    return
                ahead = asyncio.create_task(self._fetch(connection, after))
                for start in range(0, len(found), CHUNK_ROWS):
                    yield _chunk(found[start : start + CHUNK_ROWS])
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            if connection is not None:
                connection.terminate()

    async def _fetch(self, connection: "asyncpg.Connection[Any]", after: str) -> list[asyncpg.Record]:
        return await connection.fetch(_NEXT, self._board, after, STEP_ROWS, *self._versions, timeout=STEP_SECONDS)

    async def _connect(self, *, replica: bool) -> "asyncpg.Connection[Any]":
        """A connection to a replica that has caught up, or to the primary. Raises what the driver raises."""
        settings = self._settings
        self.from_replica = False
        if replica and settings.read_host is not None:
            connection: asyncpg.Connection[Any] | None = None
            try:
                connection = await self._open(settings.read_host, settings.read_port or settings.port)
                async with asyncio.timeout(CATCH_UP_SECONDS):
                    while True:
                        if await connection.fetchval(_CAUGHT_UP, self._position):
                            break
                        await asyncio.sleep(CATCH_UP_LOOK_SECONDS)
            except (OSError, TimeoutError, *DRIVER_ERRORS) as error:
                _log.warning("no replica has caught up, the primary is read", error=str(error) or type(error).__name__)
                if connection is not None:
                    connection.terminate()
            else:
                self.from_replica = True
                return connection
        return await self._open(settings.host, settings.port)

    async def _open(self, host: str, port: int) -> "asyncpg.Connection[Any]":
        connection = await open_connection(self._settings, host, port)
        # Times as they travel: a datetime for each of a million rows would cost more than all the rest.
        await connection.set_type_codec(
            "timestamptz", schema="pg_catalog", encoder=lambda value: value, decoder=lambda value: value[0],
            format="tuple",
        )  # fmt: skip
        return connection


async def open_connection(
    settings: DatabaseSettings, host: str, port: int, **options: str
) -> "asyncpg.Connection[Any]":
    """A connection of its own, with ``options`` of the session. Raises what the driver raises."""
    return await asyncpg.connect(
        host=host,
        port=port,
        user=settings.user,
        password=settings.password.get_secret_value() or None,
        database=settings.name,
        timeout=CONNECT_TIMEOUT_SECONDS,
        server_settings={"application_name": "podium-projector", "jit": "off", **options},
    )


def _chunk(found: list[asyncpg.Record]) -> Chunk:
    rows = [
        row_of(user_id, username, score, version, reached_at + _PG_EPOCH, hidden)
        for user_id, username, score, version, reached_at, hidden, _ in found
    ]
    newest = max(one["last_updated"] for one in found) + _PG_EPOCH
    return Chunk([one["user_id"] for one in found], rows, timestamp(_EPOCH + timedelta(microseconds=newest)))
