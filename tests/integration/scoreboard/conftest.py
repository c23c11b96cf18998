"""What the tests of the ranking share: who scores, and a client of the cluster in which the ranking lies."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio.cluster import RedisCluster

from podium.common.redis import make_redis
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from tests.integration.scoreboard.support import Game, running_game


@pytest.fixture
async def game(
    database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> AsyncIterator[Game]:
    """Who scores."""
    async with running_game(database_settings, redis_settings, nats_settings) as running:
        yield running


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[RedisCluster]:
    """A client that sees and does what no projector does; the cluster is empty when the test begins."""
    client = make_redis(redis_settings)
    yield client
    await client.aclose()
