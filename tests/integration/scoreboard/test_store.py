"""The scripts on a real Redis Cluster: any order and repetition of updates gives the order of SQL."""

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio.cluster import RedisCluster

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard.domain import Ranking, Row, row_of
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.layout import Place
from podium.scoreboard.lease_store import LeaseStore
from podium.scoreboard.store import NoRanking, NotProjected, RankingStore, Superseded
from tests.integration.scoreboard.support import running_game, running_projector, until

NOW = "2026-01-01T00:00:00.000000Z"
WRITER = "test"
NUMBERS = itertools.count()
"""A board of its own for each example."""

MOMENT = st.integers(0, 4).map(lambda step: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=step))
USER = st.sampled_from(["a", "b", "B", "é", "a|b", "a:b", "%d", '"q"', "日本"])


@st.composite
def histories(draw: st.DrawFn) -> list[ScoreUpdate]:
    """Versions of some users' scores, each as it was committed."""
    updates = []
    versions: dict[str, int] = {}
    for user in draw(st.lists(USER, max_size=25)):
        versions[user] = versions.get(user, 0) + 1
        updates.append(
            ScoreUpdate(
                board="default",
                user_id=user,
                username=draw(st.sampled_from(["Ann", "a|b|c", 'quo"te', "line\nbreak", ""])),
                score=draw(st.one_of(st.integers(-3, 3), st.sampled_from([2**53 - 1, 1 - 2**53, 10**15]))),
                version=versions[user],
                reached_at=draw(MOMENT),
                hidden=draw(st.sampled_from([False, False, True])),
            )
        )
    return updates


def by_sql(updates: list[ScoreUpdate]) -> tuple[Ranking, ...]:
    """What SQL says after all of ``updates``."""
    newest: dict[str, ScoreUpdate] = {}
    for one in updates:
        if one.user_id not in newest or newest[one.user_id].version < one.version:
            newest[one.user_id] = one
    shown = [one for one in newest.values() if not one.hidden]
    shown.sort(key=lambda one: (-one.score, one.reached_at, one.user_id.encode()))
    return tuple(Ranking(one.user_id, one.username, one.score, rank) for rank, one in enumerate(shown, 1))


def row(update: ScoreUpdate) -> Row:
    """An update as a row of PostgreSQL."""
    return row_of(update.user_id, update.username, update.score, update.version, update.reached_micros, update.hidden)


async def new_epoch(store: RankingStore, board: str, epoch: int, top: int = 10) -> None:
    """An empty ranking."""
    assert await store.begin(board, epoch)
    await store.swap(board, top, epoch, WRITER, [0], NOW)


@given(histories(), st.randoms(use_true_random=False), st.integers(1, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_interleaving_gives_the_order_of_sql(
    redis: RedisCluster, history: list[ScoreUpdate], dice: random.Random, top: int
) -> None:
    """Updates in any order, some twice; a rebuild begins in the middle and is swapped in at the end."""
    store, board = RankingStore(redis), f"b{next(NUMBERS)}"
    told = history + dice.sample(history, len(history) // 2)
    dice.shuffle(told)
    await new_epoch(store, board, 1, top)
    seen: list[tuple[int | None, int]] = [(1, 1)]
    middle = dice.randrange(len(told) + 1)
    begun = False
    committed: list[ScoreUpdate] = []
    while told:
        if len(told) <= middle and not begun:
            begun = await store.begin(board, 2)
            committed = list(history)  # the database is ahead of the events
        part, told = told[:3], told[3:]
        applied = await store.apply(board, top, WRITER, part)
        seen.append((applied.epoch, applied.version))
        found = await store.top(board)
        assert found is not None
        assert found.rankings == await store.places(board, top)
    assert seen == sorted(seen, key=lambda age: (age[0] or 0, age[1]))
    assert await store.places(board, 1000) == by_sql(history)
    if not begun:
        assert await store.begin(board, 2)
        committed = list(history)
    newest = {one.user_id: one for one in committed}
    writes = await store.load(Place(board), "chunk", 2, [row(one) for one in newest.values()], NOW)
    await store.swap(board, top, 2, "chunk", [writes], NOW)
    assert await store.places(board, 1000) == by_sql(history)
    found = await store.top(board)
    assert found is not None
    assert (found.age, found.rankings) == ((2, 1), by_sql(history)[:top])


async def test_without_a_ranking_there_is_nothing_to_write_to(redis: RedisCluster) -> None:
    """A wiped Redis is told from an empty ranking."""
    store = RankingStore(redis)
    update = ScoreUpdate("default", "u", "U", 1, 1, datetime.now(UTC))
    with pytest.raises(NoRanking):
        await store.apply("default", 10, WRITER, [update])
    assert await store.page("default", 10) is None
    assert await store.standing("default", "u", 5) is None


async def test_a_rebuild_that_was_overtaken_cannot_be_swapped_in(redis: RedisCluster) -> None:
    """Epochs only grow; the older builder learns of it at its next step."""
    store = RankingStore(redis)
    assert await store.begin("default", 1)
    assert await store.begin("default", 2)
    assert not await store.begin("default", 1)
    update = ScoreUpdate("default", "u", "U", 1, 1, datetime.now(UTC))
    with pytest.raises(Superseded):
        await store.load(Place("default"), WRITER, 1, [row(update)], NOW)
    with pytest.raises(Superseded):
        await store.swap("default", 10, 1, WRITER, [0], NOW)
    await store.load(Place("default"), WRITER, 2, [row(update)], NOW)
    with pytest.raises(Superseded):
        await store.swap("default", 10, 2, WRITER, [2], NOW)
    await store.swap("default", 10, 2, WRITER, [1], NOW)


async def test_a_layout_that_the_board_does_not_know_keeps_no_update(redis: RedisCluster) -> None:
    """Its shards would take updates for ever; who knows them by a rebuild that was given up finds the way back."""
    projector, builder = RankingStore(redis), RankingStore(redis)
    now = datetime.now(UTC)
    assert await builder.begin("default", 1, shards=3)
    await projector.apply("default", 10, WRITER, [ScoreUpdate("default", "a", "A", 1, 1, now)])
    assert await builder.begin("default", 2, shards=1)
    await projector.apply("default", 10, WRITER, [ScoreUpdate("default", "b", "B", 2, 1, now)])
    await builder.swap("default", 10, 2, "builder", [0], NOW)
    assert [one.user_id for one in await builder.places("default", 10)] == ["b"]


async def test_a_shard_that_went_back_is_not_whole(redis: RedisCluster) -> None:
    """Its head has seen more of it than it has: it is a copy that lacks the newest writes."""
    store = RankingStore(redis)
    now = datetime.now(UTC)
    assert await store.begin("default", 1, shards=3)
    await store.swap("default", 10, 1, WRITER, [0, 0, 0], NOW)
    keys = [key async for key in redis.scan_iter(match="{board:default:3.*}:*")]
    copy = {key: await redis.dump(key) or b"" for key in keys}
    await store.apply("default", 10, WRITER, [ScoreUpdate("default", f"u{n}", "U", n, 1, now) for n in range(30)])
    _, whole = await store.settle("default", 10, await store.state("default"))
    assert whole
    for key, value in copy.items():
        await redis.restore(key, 0, value, replace=True)
    _, whole = await store.settle("default", 10, await store.state("default"))
    assert not whole


async def test_who_is_unknown_is_unknown_as_of_a_version(redis: RedisCluster) -> None:
    """So an older copy's ignorance is told from the truth."""
    store = RankingStore(redis)
    for shards in (1, 3):
        board = f"b{shards}"
        assert await store.begin(board, 1, shards=shards)
        await store.swap(board, 10, 1, WRITER, [0] * shards, NOW)
        with pytest.raises(NotProjected) as unknown:
            await store.standing(board, "nobody", 5)
        assert unknown.value.age == (1, 1)


async def test_old_epochs_leave_nothing_behind(redis: RedisCluster) -> None:
    """After a swap only the current epoch's keys are there."""
    store = RankingStore(redis)
    for epoch in (1, 2, 3):
        await new_epoch(store, "default", epoch)
        await store.apply("default", 10, WRITER, [ScoreUpdate("default", "u", "U", 1, 1, datetime.now(UTC))])
    keys = {key.decode() async for key in redis.scan_iter(match="{board:default}:*")}
    assert keys == {f"{{board:default}}:{name}" for name in ("meta", "top", "3:rank", "3:users", "3:writers")}


async def test_a_changed_size_of_the_top_is_a_new_version(redis: RedisCluster) -> None:
    """Watchers see the longer top without waiting for a score."""
    store = RankingStore(redis)
    await new_epoch(store, "default", 1, top=1)
    updates = [ScoreUpdate("default", f"u{n}", "U", n, 1, datetime.now(UTC)) for n in range(3)]
    before = await store.apply("default", 1, WRITER, updates)
    await store.resize("default", 2)
    found = await store.top("default")
    assert found is not None
    assert (found.version, len(found.rankings)) == (before.version + 1, 2)
    await store.resize("default", 2)
    assert await store.top("default") == found


async def acquire(leases: LeaseStore, key: str, connection: str, limit: int) -> bool | None:
    """What the store says to one who asks for a lease."""
    answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
    leases.acquire(key, connection, limit, answer.set_result)
    return await answer


async def test_leases_are_counted_renewed_and_given_back(redis: RedisCluster, redis_settings: RedisSettings) -> None:
    """A lease beyond the limit is refused; a renewal brings back what a wiped Redis forgot.

    All the same over the library, as at first, and over the store's own connections.
    """
    leases = LeaseStore(redis, redis_settings.password.get_secret_value() or None)
    try:
        for key in ("conn:ip:x", "conn:ip:y"):
            assert [await acquire(leases, key, name, 2) for name in "abc"] == [True, True, False]
            leases.release(key, "a")
            assert await acquire(leases, key, "c", 2)
            await redis.delete(key)
            renewed: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
            leases.renew(key, ["b", "c"], renewed.set_result)
            assert await renewed
            assert not await acquire(leases, key, "d", 2)
            # A pod that died renews nothing: what it held runs out.
            await redis.zadd(key, {"b": 1})
            assert await acquire(leases, key, "d", 2)
            await leases.linked()
    finally:
        await leases.close()


async def test_one_at_a_time_has_the_turn_to_purge_a_board(redis: RedisCluster) -> None:
    """Who comes later is told how long to wait; another board has a turn of its own, and a turn ends by itself."""
    one, other = RankingStore(redis), RankingStore(redis)
    assert await one.claim_purge("default", 0.3) == 0
    left = await other.claim_purge("default", 0.3)
    assert 0 < left <= 0.3
    assert await other.claim_purge("weekly", 0.3) == 0

    async def has_it() -> bool:
        return await other.claim_purge("default", 0.3) == 0

    await until(has_it, "the turn is over")


async def test_a_wrong_key_is_answered_like_an_outage(redis: RedisCluster, redis_settings: RedisSettings) -> None:
    """Whoever asks for a lease gets an answer, whatever Redis says."""
    leases = LeaseStore(redis, redis_settings.password.get_secret_value() or None)
    try:
        await leases.linked()
        await redis.set("conn:ip:x", "no set")
        assert await acquire(leases, "conn:ip:x", "a", 2) is None
        assert await acquire(leases, "conn:ip:y", "a", 2)
    finally:
        await leases.close()


async def test_an_older_copy_of_redis_is_noticed_and_replaced(
    redis: RedisCluster,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """After a failover to a replica that lacks the last writes, a new epoch has them all."""
    async with (
        running_game(database_settings, redis_settings, nats_settings) as game,
        running_projector(database_settings, redis_settings, nats_settings),
    ):

        async def agrees() -> bool:
            return await game.store.places("default", 1000) == await game.truth()

        await game.score("ann", 10)
        await until(agrees, "Redis and SQL agree")
        keys = [key async for key in redis.scan_iter(match="{board:default}:*")]
        copy = {key: await redis.dump(key) or b"" for key in keys}
        await game.score("ben", 20)
        await until(agrees, "Redis and SQL agree")
        before = await game.store.state("default")
        for key, value in copy.items():
            await redis.restore(key, 0, value, replace=True)
        await until(agrees, "Redis and SQL agree again")
        after = await game.store.state("default")
        assert (after.epoch or 0) > (before.epoch or 0)
