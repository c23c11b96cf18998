"""Connections to PostgreSQL for the hot path: asyncpg as it is, with exact times and a span for each statement."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, TypeAlias

import asyncpg
from opentelemetry import trace

from podium.common.database import CONNECT_TIMEOUT_SECONDS, DRIVER_ERRORS, STATEMENT_TIMEOUT_SECONDS
from podium.common.settings import DatabaseSettings
from podium.common.telemetry import tracer
from podium.scores.domain_limits import SECOND

IDLE_IN_TRANSACTION_MS = 5_000
"""After this, in milliseconds, the server ends a transaction whose pod froze or vanished, so its row locks go."""

PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""Each statement here looks a few hundred keys up. Left alone the server plans it anew for each batch's arrays, or
keeps to a scan of the whole table that it chose while the table was small."""

PG_EPOCH = 946_684_800 * SECOND
"""2000-01-01, where PostgreSQL's binary times begin, in Unix microseconds. To this module's connections a
``timestamptz`` is an integer of microseconds since then."""

FOR_EVER = 2**63 - 1
"""PostgreSQL's binary ``infinity``."""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


async def open_pool(settings: DatabaseSettings, size: int) -> Pool:
    """A pool that connects when it is used; it does not reach the server now, so it never fails."""
    return await asyncpg.create_pool(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password.get_secret_value() or None,
        database=settings.name,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=300.0,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=STATEMENT_TIMEOUT_SECONDS,
        init=_prepare_connection,
        reset=_keep_session,
        server_settings={
            "application_name": "podium-scores",
            "jit": "off",
            **PLANS,
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
        },
    )


async def _prepare_connection(connection: Any) -> None:
    # On the wire a time is an integer; as such the driver reads and writes it in C, and nothing is rounded.
    await connection.set_builtin_type_codec("timestamptz", schema="pg_catalog", codec_name="int8", format="binary")


async def _keep_session(_: Any) -> None:
    """Nothing in a session outlives its transaction here, so the pool's reset would be a wasted round trip."""


def db_span(name: str) -> AbstractContextManager[Any]:
    """A client span of one statement, where its batch is traced."""
    if not trace.get_current_span().is_recording():
        return nullcontext()
    return tracer.start_as_current_span(
        name, kind=trace.SpanKind.CLIENT, attributes={"db.system.name": "postgresql", "db.operation.name": name}
    )


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool, which does not get it back when the driver has lost track of it."""
    async with pool.acquire() as connection:
        try:
            yield connection
        except asyncpg.InternalClientError:
            connection.terminate()
            raise


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose COMMIT has a span of its own: there a synchronous standby makes itself felt."""
    inner = connection.transaction()
    await inner.start()
    try:
        yield
    except BaseException:
        # The server rolls back by itself where the connection is gone, and the first error is the one to tell.
        with suppress(*DRIVER_ERRORS, OSError):
            await inner.rollback()
        raise
    with db_span("COMMIT"):
        await inner.commit()
