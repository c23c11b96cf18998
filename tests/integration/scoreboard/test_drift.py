"""The comparison with PostgreSQL: it finds what no update made, heals it, and never mistakes an update for drift."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY
from redis.asyncio.cluster import RedisCluster

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.layout import Place, shard_of
from podium.scoreboard.projector.app import Projector
from tests.integration.scoreboard.support import Game, running_projector, until

USERS = 30


@pytest.fixture(params=[1, 3])
async def projector(
    request: pytest.FixtureRequest,
    game: Game,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> AsyncIterator[Projector]:
    """A projector with a board of some users, whole or spread over shards."""
    boards = f'[{{"name":"default","shards":{request.param}}}]'
    for number in range(USERS):
        await game.commit(f"user-{number}", number % 7)
    async with running_projector(database_settings, redis_settings, nats_settings, boards) as running:
        yield running


async def agrees(game: Game) -> bool:
    """Whether Redis and SQL show the same ranking, and the same top."""
    top = await game.store.top("default")
    truth = await game.truth()
    return await game.store.places("default", 1000) == truth and top is not None and top.rankings == truth[:10]


async def home(game: Game, user: str) -> tuple[Place, str]:
    """Where a user's keys are, and what they begin with."""
    state = await game.store.state("default")
    place = Place("default", shard_of(user, state.shards), state.shards)
    return place, f"{place.prefix}{state.epoch}"


async def test_updates_on_their_way_are_no_drift(game: Game, projector: Projector) -> None:
    """Compared while scores come in, and while one is committed whose event is sent late."""
    stop = asyncio.Event()

    async def play() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await game.score(f"user-{number % 40}", number % 5 + 1)

    players = [asyncio.create_task(play()) for _ in range(2)]
    try:
        for _ in range(3):
            found = await projector.boards.check_drift("default")
            assert found is not None
            assert found.drifted == 0
    finally:
        stop.set()
        await asyncio.gather(*players)
    await until(lambda: agrees(game), "Redis and SQL agree")


async def test_what_no_update_made_is_counted_and_healed(game: Game, projector: Projector, redis: RedisCluster) -> None:
    """A lost update, a forgotten user, a user nobody knows, a wrong place and a place of nobody."""
    await until(lambda: agrees(game), "Redis and SQL agree")
    await game.commit("user-1", 500)  # its event is lost
    _, keys = await home(game, "user-2")
    await redis.hdel(f"{keys}:users", "user-2")
    await game.store.apply(
        "default", 10, "nobody", [ScoreUpdate("default", "ghost", "Ghost", 999, 1, datetime.now(UTC))]
    )
    _, keys = await home(game, "user-4")
    (member,) = [one async for one, _ in redis.zscan_iter(f"{keys}:rank") if one.endswith(b":user-4")]
    await redis.zadd(f"{keys}:rank", {member: -777})
    _, keys = await home(game, "stray")
    await redis.zadd(f"{keys}:rank", {"1767225600000000:stray": -888})

    before = REGISTRY.get_sample_value("podium_ranking_drifted_users_total", {"board": "default"}) or 0
    found = await projector.boards.check_drift("default")
    assert found is not None
    assert (found.drifted, found.healed) == (6, 6)  # the forgotten user's place was one of nobody, too
    assert await agrees(game)
    assert (await game.store.state("default")).drifted == 6
    again = await projector.boards.check_drift("default")
    assert again is not None
    assert again.drifted == 0
    await projector.boards.look_after()
    state = await game.store.state("default")
    labels = {"board": "default"}
    assert REGISTRY.get_sample_value("podium_ranking_drift_users", labels) == 0
    assert REGISTRY.get_sample_value("podium_ranking_drift_checked_timestamp_seconds", labels) == state.checked
    assert REGISTRY.get_sample_value("podium_ranking_drifted_users_total", labels) == before + 6
    await game.score("user-1", 1)
    await until(lambda: agrees(game), "updates go on after the healing")


async def test_values_that_nothing_can_read_are_put_right(
    game: Game, projector: Projector, redis: RedisCluster
) -> None:
    """Whatever somebody wrote into Redis by hand: readers and updates go on meanwhile, and the check heals it."""
    await until(lambda: agrees(game), "Redis and SQL agree")
    for user in ("user-1", "user-2", "nobody"):
        _, keys = await home(game, user)
        await redis.hset(f"{keys}:users", user, "1|0|-62135596800000000|Year one")
    _, keys = await home(game, "user-3")
    await redis.hset(f"{keys}:users", "user-3", "")
    assert await game.store.top("default") is not None
    await game.score("user-2", 1)
    found = await projector.boards.check_drift("default")
    assert found is not None
    assert found.drifted == found.healed >= 3
    assert await agrees(game)


async def test_one_comparison_serves_all_projectors(game: Game, projector: Projector) -> None:
    """What another one has compared a moment ago is not compared again."""
    assert await projector.boards.check_drift("default") is not None
    assert await projector.boards.check_drift("default", not_within=60) is None
