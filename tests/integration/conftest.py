"""Real stores for integration tests: one set for the session, clean for each test that asks for its settings."""

import asyncio
from collections.abc import Iterator

import nats
import pytest

from podium.common.bus import Bus, connect
from podium.common.problems import StoreUnavailable
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from tests.support.processes import START_SECONDS
from tests.support.stores import Nats, Stores, running_stores


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """Redis Cluster, NATS and PostgreSQL of this test session."""
    with running_stores() as running:
        yield running


@pytest.fixture
def database_settings(stores: Stores) -> Iterator[DatabaseSettings]:
    """A fresh database with all tables."""
    name = stores.postgres.create_database()
    yield stores.postgres.settings(name)
    stores.postgres.drop_database(name)


@pytest.fixture
def empty_database_settings(stores: Stores) -> Iterator[DatabaseSettings]:
    """A fresh database without tables, for tests of the migrations."""
    name = stores.postgres.create_database(migrated=False)
    yield stores.postgres.settings(name)
    stores.postgres.drop_database(name)


@pytest.fixture
def redis_settings(stores: Stores) -> RedisSettings:
    """An empty Redis Cluster."""
    stores.redis.wait_whole()
    stores.redis.flush()
    return stores.redis.settings()


@pytest.fixture
async def nats_settings(stores: Stores) -> NatsSettings:
    """NATS with the project's streams and buckets, all empty."""
    settings = stores.nats.settings()
    await _delete_streams(stores.nats)
    bus = await connect(settings, "tests")
    try:
        await _create_streams(bus)
    finally:
        await bus.close()
    return settings


@pytest.fixture
def service_env(
    stores: Stores, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> dict[str, str]:
    """The environment of a service's process on clean stores (for ``tests.support.apps.run_service``)."""
    return stores.environment(database_settings.name)


async def _create_streams(bus: Bus) -> None:
    """Create them as soon as the server has put away the files of those that were deleted just now."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                return await bus.ensure_streams()
            except StoreUnavailable:
                await asyncio.sleep(0.02)


async def _delete_streams(server: Nats) -> None:
    settings = server.settings()
    client = await nats.connect(settings.url, user=settings.user, password=settings.password.get_secret_value())
    try:
        manager = client.jetstream()
        for stream in await manager.streams_info():
            if stream.config.name is not None:
                await manager.delete_stream(stream.config.name)
    finally:
        await client.close()
