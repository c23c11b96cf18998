"""What the tests of the ranking share: who scores, and a client of the cluster in which the ranking lies."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from redis.asyncio.cluster import RedisCluster

from podium.common.redis import make_redis
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard.projector.app import Projector
from tests.integration.scoreboard.services import BOARDS, Issuer, Start, running_scoreboard
from tests.integration.scoreboard.support import Game, running_game, running_projector
from tests.support.apps import RunningApp


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


@pytest.fixture
async def projector(
    database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> AsyncIterator[Projector]:
    """Brings what is scored into the rankings of all boards."""
    async with running_projector(database_settings, redis_settings, nats_settings, BOARDS) as running:
        yield running


@pytest.fixture
def issuer() -> Issuer:
    """Who signs tokens."""
    return Issuer()


@pytest.fixture
async def start(
    projector: Projector, redis_settings: RedisSettings, nats_settings: NatsSettings, issuer: Issuer
) -> AsyncIterator[Start]:
    """Start a pod beside a projector."""
    async with contextlib.AsyncExitStack() as stack:

        async def one(**options: Any) -> tuple[RunningApp, FastAPI]:
            pod = running_scoreboard(redis_settings, nats_settings, issuer, **options)
            return await stack.enter_async_context(pod)

        yield one
