"""Rebuilds: from a replica that has caught up, by whoever is there, while readers keep the last good answer."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio.cluster import RedisCluster
from sqlalchemy import text

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard.layout import places
from podium.scoreboard.projector import scan
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import BoardState
from tests.integration.scoreboard.support import Game, running_projector, until
from tests.support.replica import Replica
from tests.support.stores import Stores

MANY = 9_000
"""Users: more than two steps of a walk."""

_FILL = text("""
    INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions)
    SELECT 'default', 'user-' || n, 'Name of user-' || n, n % 100, 1,
      timestamptz '2026-01-01' + n % 50 * interval '1 us', timestamptz '2026-01-01', 1
    FROM generate_series(1, :users) AS n
""")


@pytest.fixture
def replica(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A read replica of the test's PostgreSQL."""
    directory: Path = tmp_path_factory.mktemp("replica")
    for folder in (directory, *list(directory.parents)[:2]):
        folder.chmod(0o755)  # the server has a user of its own
    running = Replica(stores.postgres, directory)
    running.start()
    yield running
    running.stop()


async def walk(source: ScoreSource) -> tuple[set[str], bool]:
    """The users that a walk finds, and whether a replica was read."""
    found: list[str] = []
    users = await source.scan("default", 1)
    async with contextlib.aclosing(users.chunks()) as chunks:
        async for chunk in chunks:
            found += chunk.users
    assert len(found) == len(set(found))
    return set(found), users.from_replica


async def test_a_replica_is_read_once_it_has_replayed_what_was_committed(
    monkeypatch: pytest.MonkeyPatch, game: Game, replica: Replica, database_settings: DatabaseSettings
) -> None:
    """One that lags is waited for; where it does not catch up, the primary is read. Nothing committed is missed."""
    async with game.engine.begin() as connection:
        await connection.execute(_FILL, {"users": MANY})
    with_replica = database_settings.model_copy(update={"read_host": "127.0.0.1", "read_port": replica.port})
    source = ScoreSource(with_replica)
    try:
        users, from_replica = await walk(source)
        assert (len(users), from_replica) == (MANY, True)

        await asyncio.to_thread(replica.pause_replay)
        await game.commit("late", 5)
        monkeypatch.setattr(scan, "CATCH_UP_SECONDS", 0.3)
        users, from_replica = await walk(source)
        assert ("late" in users, from_replica) == (True, False)

        monkeypatch.setattr(scan, "CATCH_UP_SECONDS", 30)
        waiting = asyncio.create_task(walk(source))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await asyncio.to_thread(replica.resume_replay)
        users, from_replica = await waiting
        assert ("late" in users, from_replica) == (True, True)

        replica.stop()
        users, from_replica = await walk(source)
        assert (len(users), from_replica) == (MANY + 1, False)
    finally:
        await source.close()


async def test_only_one_process_rebuilds_a_board(database_settings: DatabaseSettings) -> None:
    """The lock belongs to the connection: whoever dies frees it."""
    first, second = ScoreSource(database_settings), ScoreSource(database_settings)
    try:
        async with first.rebuilding("default") as mine:
            assert mine
            async with second.rebuilding("default") as taken, second.rebuilding("other") as free:
                assert (taken, free) == (False, True)
        async with second.rebuilding("default") as freed:
            assert freed
    finally:
        await first.close()
        await second.close()


async def test_a_rebuild_that_was_abandoned_is_done_by_another(
    game: Game, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """Its builder has died in the middle; meanwhile the last good ranking is shown."""
    settings = (database_settings, redis_settings, nats_settings)
    await game.commit("ann", 10)
    async with running_projector(*settings):
        shown = await game.store.top("default")
    before = await game.store.state("default")
    source = ScoreSource(database_settings)
    epoch, _, _ = await source.next_epoch("default")
    await source.close()
    assert await game.store.begin("default", epoch)
    assert await game.store.top("default") == shown
    assert await game.store.places("default", 1000) == await game.truth()
    async with running_projector(*settings):
        await until(lambda: rebuilt(game, before), "another epoch is there")
        assert await game.store.places("default", 1000) == await game.truth()


async def rebuilt(game: Game, before: BoardState) -> bool:
    """Whether a later epoch is whole."""
    state = await game.store.state("default")
    return state.building is None and (state.epoch or 0) > (before.epoch or 0)


async def test_the_number_of_shards_is_a_matter_of_configuration(
    game: Game,
    redis: RedisCluster,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """Another number of shards is a new epoch with the same ranking; nothing of the former one stays."""
    settings = (database_settings, redis_settings, nats_settings)
    async with game.engine.begin() as connection:
        await connection.execute(_FILL, {"users": 500})
    seen = (0, 0)
    for number, shards in enumerate((1, 3, 4, 1)):
        async with running_projector(*settings, f'[{{"name":"default","shards":{shards}}}]'):

            async def spread(shards: int = shards) -> bool:
                state = await game.store.state("default")
                return (state.shards, state.retiring, state.building) == (shards, 0, None)

            await until(spread, f"the board has {shards} shards")
            await game.score(f"user-{number + 1}", 1000)

            async def agrees() -> bool:
                return await game.store.places("default", 1000) == await game.truth()

            await until(agrees, "Redis and SQL agree")
            top = await game.store.top("default")
            assert top is not None
            assert top.rankings == (await game.truth())[:10]
            assert top.age > seen
            seen = top.age
        keys = {key.decode().partition("}")[0] async for key in redis.scan_iter(match="{board:*")}
        expected = {place.prefix.partition("}")[0] for place in places("default", shards)} | {"{board:default"}
        assert keys == expected


async def test_a_shard_that_was_lost_is_noticed(
    game: Game,
    redis: RedisCluster,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """One of three is empty: its users are back after a rebuild, and no page lacks them in between."""
    async with game.engine.begin() as connection:
        await connection.execute(_FILL, {"users": 500})
    boards = '[{"name":"default","shards":3}]'
    async with running_projector(database_settings, redis_settings, nats_settings, boards):
        before = await game.store.state("default")
        for key in [key async for key in redis.scan_iter(match="{board:default:3.1}:*")]:
            await redis.delete(key)
        while not await rebuilt(game, before):
            page = await game.store.page("default", 100)
            assert page is None or page.rankings == await game.truth(100)
        assert await game.store.places("default", 1000) == await game.truth()
