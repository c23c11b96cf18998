"""PostgreSQL through SQLAlchemy's asyncio engine on asyncpg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.settings import DatabaseSettings

CONNECT_TIMEOUT_SECONDS = 3.0
STATEMENT_TIMEOUT_SECONDS = 5.0
POOL_WAIT_SECONDS = 2.0

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises; the last one, among others, where a connection broke while a statement was being prepared."""

_AWAY = (
    "08",  # connection exceptions
    "57P",  # operator intervention: shut-down, crash, cannot connect now
    "53",  # insufficient resources
    "25006",  # read-only transaction: this is no longer the primary
    "28",  # the log-in was refused: a password that is being changed
    "3D000",  # there is no such database: one that is being restored
)
"""SQLSTATE prefixes that say the server, not the statement, is at fault (PostgreSQL documentation, appendix A)."""


def database_url(settings: DatabaseSettings, *, read: bool = False, driver: str = "postgresql+asyncpg") -> URL:
    """URL of the primary, or of the read replicas with ``read``. Rendering it hides the password."""
    return URL.create(
        driver,
        username=settings.user,
        password=settings.password.get_secret_value() or None,
        host=(settings.read_host or settings.host) if read else settings.host,
        port=(settings.read_port or settings.port) if read else settings.port,
        database=settings.name,
    )


def make_engine(settings: DatabaseSettings, *, read: bool = False, pool_size: int = 5) -> AsyncEngine:
    """An engine with bounded pool and time-outs; connections are checked after an outage, not before each use."""
    return create_async_engine(
        database_url(settings, read=read),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_recycle=300,
        connect_args={
            "timeout": CONNECT_TIMEOUT_SECONDS,
            "command_timeout": STATEMENT_TIMEOUT_SECONDS,
            "server_settings": {"application_name": "podium", "jit": "off"},
        },
    )


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` says that PostgreSQL is away (as opposed to a statement that is wrong by itself)."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        state = getattr(error.orig, "sqlstate", None)
        if state:
            return str(state).startswith(_AWAY)
        return isinstance(error, InterfaceError | OperationalError)
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "sqlstate", "")).startswith(_AWAY)
    if isinstance(error, ValueError):  # asyncpg refused an argument before it was sent
        return False
    return isinstance(
        error,
        OSError | TimeoutError | PoolTimeout | asyncpg.InterfaceError | asyncpg.InternalClientError,
    )


@asynccontextmanager
async def outage_mapped(operation: str) -> AsyncIterator[None]:
    """Turn an outage inside the block into StoreUnavailable("postgres"), counted under ``operation``."""
    try:
        yield
    except (DBAPIError, OSError, TimeoutError, PoolTimeout, *DRIVER_ERRORS) as error:
        if not is_outage(error):
            raise
        STORE_FAILURES.labels("postgres", operation).inc()
        raise StoreUnavailable("postgres") from error
