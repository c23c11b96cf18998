"""The projector on real stores: the ranking in Redis becomes and stays what SQL says."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial

from nats.aio.msg import Msg

from podium.common.bus import DLQ_STREAM, EVENTS_STREAM, SCORE_UPDATED, TOP_PREFIX
from podium.common.problems import StoreUnavailable
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard.domain import Snapshot, decode_snapshot
from tests.integration.scoreboard.support import Game, event, running_projector, until
from tests.support.processes import paused
from tests.support.stores import Stores

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@contextlib.asynccontextmanager
async def watched(game: Game, board: str = "default") -> AsyncIterator[list[Snapshot]]:
    """All snapshots published for a board inside the block."""
    seen: list[Snapshot] = []

    async def take(message: Msg) -> None:
        seen.append(decode_snapshot(message.data))

    subscription = await game.bus.client.subscribe(TOP_PREFIX + board, cb=take)
    await game.bus.client.flush()
    try:
        yield seen
    finally:
        await subscription.unsubscribe()


async def agrees(game: Game) -> bool:
    """Whether Redis and SQL show the same ranking."""
    return await game.store.places("default", 1000) == await game.truth()


async def test_a_board_without_scores_has_an_empty_ranking(
    game: Game, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """An epoch exists before the first score, so watchers have a snapshot at once."""
    async with running_projector(database_settings, redis_settings, nats_settings):
        top = await game.store.top("default")
        assert top is not None
        assert (top.rankings, top.version) == ((), 1)
        assert top.epoch > 0
        assert top.last_updated.endswith("Z")


async def test_a_score_changes_the_top_and_is_published(
    game: Game, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """The published snapshot is the stored one, one version on, with the update's trace."""
    async with running_projector(database_settings, redis_settings, nats_settings), watched(game) as seen:
        before = await game.store.top("default")
        assert before is not None
        await game.score("ann", 10, trace=TRACE)

        async def published() -> bool:
            state = await game.store.state("default")
            return bool(seen) and seen[-1].version == before.version + 1 and state.published == state.version

        await until(published, "the new top is published and marked")
        assert seen[-1] == await game.store.top("default")
        assert seen[-1].rankings == await game.truth()
        assert seen[-1].traces == (TRACE,)


async def test_what_existed_before_the_projector_is_ranked(
    game: Game, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """The first epoch comes from PostgreSQL, whatever the event stream still has."""
    for number in range(700):
        await game.commit(f"user{number}", random.randint(1, 50))
    async with running_projector(database_settings, redis_settings, nats_settings):
        assert await agrees(game)


async def test_two_projectors_and_a_wiped_redis_end_in_the_order_of_sql(
    game: Game,
    stores: Stores,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """Redis is wiped under load; the ranking is rebuilt exactly, and no watcher sees it go back."""
    settings = (database_settings, redis_settings, nats_settings)
    stop = asyncio.Event()

    async def play(seed: int) -> None:
        dice = random.Random(seed)
        while not stop.is_set():
            payload = await game.commit(f"user{dice.randint(1, 60)}", dice.randint(1, 3))
            await game.tell(payload)
            if dice.random() < 0.2:
                await game.tell(payload)  # told twice

    async with running_projector(*settings), running_projector(*settings), watched(game) as seen:
        players = [asyncio.create_task(play(seed)) for seed in range(4)]
        for _ in range(2):
            first = await game.store.top("default")
            assert first is not None
            await until(partial(_moved, game, first), "the top moves")
            await asyncio.to_thread(stores.redis.flush)
            await until(partial(_rebuilt, game, first.epoch), "a new epoch is there")
        stop.set()
        await asyncio.gather(*players)
        await until(lambda: agrees(game), "Redis and SQL agree")
        top = await game.store.top("default")
        assert top is not None
        assert top.rankings == (await game.truth())[:10]
        await until(lambda: _published(seen, top), "the last top is published")


async def _moved(game: Game, since: Snapshot) -> bool:
    top = await game.store.top("default")
    return top is not None and top.age > (since.epoch, since.version + 10)


async def _rebuilt(game: Game, epoch: int) -> bool:
    state = await game.store.state("default")
    return state.epoch is not None and state.epoch > epoch


async def _published(seen: list[Snapshot], top: Snapshot) -> bool:
    return bool(seen) and max(seen, key=lambda one: one.age) == top


async def test_an_event_that_cannot_be_read_goes_to_the_dead_letters(
    game: Game, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """Poison stops nobody: the updates around it are applied."""
    async with running_projector(database_settings, redis_settings, nats_settings):
        await game.score("ann", 10)
        await game.tell(b"{", trace=TRACE)
        await game.tell(event([{"board": "default", "userId": "x", "score": "many"}]))
        await game.score("ben", 20)
        await until(lambda: agrees(game), "Redis and SQL agree")

        async def buried() -> bool:
            return (await game.bus.jetstream.stream_info(DLQ_STREAM)).state.messages == 2

        await until(buried, "both events are dead letters")
        message = await game.bus.jetstream.get_msg(DLQ_STREAM, seq=1)
        assert (message.subject, message.data) == ("podium.dlq.projector", b"{")
        headers = message.headers or {}
        assert headers["Podium-Reason"].startswith("malformed event")
        assert headers["Podium-Subject"] == SCORE_UPDATED
        original = await game.bus.jetstream.get_msg(EVENTS_STREAM, seq=int(headers["Podium-Stream-Seq"]))
        assert original.data == b"{"
        assert headers["traceparent"] == TRACE

        async def done() -> bool:
            return await game.bus.acknowledged("projector") == await game.bus.last_sequence(SCORE_UPDATED)

        await until(done, "nothing is left to do")


async def test_an_outage_of_redis_loses_nothing(
    game: Game,
    stores: Stores,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """With Redis away events wait; once it is back, the ranking is whole and nothing is a dead letter."""
    async with running_projector(database_settings, redis_settings, nats_settings):
        await game.score("ann", 10)
        await until(lambda: agrees(game), "Redis and SQL agree")
        with paused(stores.redis.processes):
            for number in range(20):
                await game.score(f"user{number}", number + 1)
        await until(lambda: agrees_when_there(game), "Redis and SQL agree again")
        assert (await game.bus.jetstream.stream_info(DLQ_STREAM)).state.messages == 0


async def test_events_come_again_after_nats_was_killed(
    game: Game,
    stores: Stores,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """A batch that was delivered, but not acknowledged, when the server died is delivered again."""
    async with running_projector(database_settings, redis_settings, nats_settings):
        await game.score("ann", 10)
        await until(lambda: agrees(game), "Redis and SQL agree")
        with paused(stores.redis.processes):
            for number in range(20):
                await game.score(f"user{number}", number + 1)
            await until(lambda: _handed_out(game), "the projector has events in hand")
            await asyncio.to_thread(stores.nats.process.kill)
            await asyncio.to_thread(stores.nats.process.restart)
        await until(lambda: agrees_when_there(game), "Redis and SQL agree again")


async def _handed_out(game: Game) -> bool:
    info = await game.bus.jetstream.consumer_info(EVENTS_STREAM, "projector")
    return bool(info.num_ack_pending)


async def agrees_when_there(game: Game) -> bool:
    """``agrees``, where Redis may still be on its way back."""
    try:
        return await agrees(game)
    except StoreUnavailable:
        return False


async def test_a_rebuild_can_be_asked_for(
    game: Game, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """``podium.rebuild.<board>`` gives a new epoch with the same ranking."""
    async with running_projector(database_settings, redis_settings, nats_settings):
        await game.score("ann", 10)
        await until(lambda: agrees(game), "Redis and SQL agree")
        before = await game.store.state("default")
        await game.bus.client.publish("podium.rebuild.default", b"")
        await until(partial(_rebuilt, game, before.epoch or 0), "a new epoch is there")
        assert await agrees(game)
