"""The stores of the tests are what they claim to be."""

from pathlib import Path

import asyncpg
import httpx
import psycopg
import pytest
from fastapi import FastAPI

from podium.common import bus
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from tests.support.apps import run_app
from tests.support.processes import Process, ServerFailed
from tests.support.stores import SHARDS, Stores


async def _tables(settings: DatabaseSettings) -> set[str]:
    connection = await asyncpg.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password.get_secret_value(),
        database=settings.name,
    )
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    return {row["tablename"] for row in rows}


async def test_a_fresh_database_has_the_tables_of_the_schema(database_settings: DatabaseSettings) -> None:
    """Each test gets a copy of one migrated database."""
    assert {"player", "user_score", "action_log", "outbox", "scoreboard_analytics"} <= await _tables(database_settings)


async def test_an_empty_database_has_none(empty_database_settings: DatabaseSettings) -> None:
    """Migrations can be tested from nothing."""
    assert await _tables(empty_database_settings) == set()


def test_the_redis_cluster_serves_every_slot(stores: Stores, redis_settings: RedisSettings) -> None:
    """Three primaries share all slots, each has a replica."""
    assert len(redis_settings.addresses()) == 2 * SHARDS
    primaries = stores.redis.primaries()
    assert len(primaries) == SHARDS
    assert [primary.info("replication")["connected_slaves"] for primary in primaries] == [1] * SHARDS


async def test_the_streams_exist_and_are_empty(nats_settings: NatsSettings) -> None:
    """Each test begins with empty streams."""
    async with await bus.connect(nats_settings, "test") as connection:
        info = await connection.jetstream.stream_info(bus.EVENTS_STREAM)
    assert info.state.messages == 0


async def test_an_app_is_served_with_its_lifespan() -> None:
    """``run_app`` serves on a port of its own until the block ends."""
    app = FastAPI()

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    async with run_app(app) as running, httpx.AsyncClient() as client:
        assert (await client.get(f"{running.url}/hello")).json() == "hello"


def test_a_killed_postgres_keeps_what_was_committed(stores: Stores, database_settings: DatabaseSettings) -> None:
    """A crash of the server's process loses no commit."""
    address = psycopg.conninfo.make_conninfo(
        host=database_settings.host,
        port=database_settings.port,
        user=database_settings.user,
        password=database_settings.password.get_secret_value(),
        dbname=database_settings.name,
    )
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    stores.postgres.process.kill()
    stores.postgres.process.restart()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]


def test_a_server_that_ends_is_reported_with_its_log(tmp_path: Path) -> None:
    """What went wrong stands in the error."""
    server = Process(["sh", "-c", "echo broken; exit 3"], tmp_path / "log", lambda: False)
    server.start()
    with pytest.raises(ServerFailed, match="ended with 3\nbroken"):
        server.wait_ready()
