"""The scores service on the session's stores."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scores.app import Settings
from tests.integration.scores.support import Scores, connect_database, make_settings, running


@pytest.fixture
def settings(
    database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> Settings:
    """Settings of one service on clean stores."""
    return make_settings(database_settings, redis_settings, nats_settings)


@pytest.fixture
async def scores(settings: Settings) -> AsyncIterator[Scores]:
    """One running service."""
    async with running(settings) as service:
        yield service


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to look at what was written."""
    connection = await connect_database(database_settings)
    try:
        yield connection
    finally:
        await connection.close()
