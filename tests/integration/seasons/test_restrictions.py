"""Bans and hides leave the ranking and come back exactly, with updates before, during and after, and over resets.

The scores service, the stores of the auth and analytics services, two projectors, real stores.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from podium.analytics.seasons import announce
from podium.auth.restrictions import Kind, RestrictionStore
from podium.common.bus import Bus, connect
from podium.common.outbox import send
from podium.common.redis import make_redis
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard.store import RankingStore
from tests.integration.scoreboard.support import running_projector, until
from tests.integration.scores.support import BOARDS, Scores, make_settings, open_session, running
from tests.integration.seasons.conftest import Database
from tests.support.client import Session


@dataclass
class World:
    """All parts that change a ranking."""

    database: Database
    scores: Scores
    restrictions: RestrictionStore
    rankings: RankingStore
    bus: Bus

    async def play(self, session: Session, action: str = "win", **fields: Any) -> httpx.Response:
        """One update."""
        return await self.scores.update(session, action, **fields)

    async def restrict(self, user: str, kind: Kind | None) -> None:
        """Put a restriction in the place of any other, or lift it with None, as the auth service does."""
        written = await self.restrictions.restrict(user, kind, reason="r", until=None, actor="test")
        await send(self.database.engine, self.bus, written)

    async def reset(self, board: str = "default") -> None:
        """Begin a new season."""
        await announce(await self.database.boards.reset(board), "admin", self.bus)

    async def truth(self, board: str = "default") -> list[tuple[str, int]]:
        """The ranking by SQL."""
        return [
            (user, score)
            for user, score in await self.database.rows(
                """
                SELECT user_id, score FROM current_score WHERE board = :board AND NOT hidden
                ORDER BY score DESC, reached_at, user_id
                """,
                board=board,
            )
        ]

    async def shown(self, board: str = "default") -> list[tuple[str, int]]:
        """The ranking that players see."""
        return [(place.user_id, place.score) for place in await self.rankings.places(board, 1000)]

    async def settled(self, board: str = "default") -> list[tuple[str, int]]:
        """What is shown once it is SQL's."""

        async def same() -> bool:
            return await self.shown(board) == await self.truth(board)

        await until(same, "the ranking is SQL's")
        return await self.shown(board)

    async def row(self, user: str) -> tuple[Any, ...]:
        """What a user must get back exactly."""
        (row,) = await self.database.rows(
            "SELECT score, reached_at, total_actions FROM current_score WHERE board = 'default' AND user_id = :user",
            user=user,
        )
        return row


@pytest.fixture
async def world(
    database: Database, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> AsyncIterator[World]:
    """Everything runs, with two projectors."""
    settings = make_settings(database_settings, redis_settings, nats_settings, updates_per_user_per_minute=1000)
    client = make_redis(redis_settings)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(
                running_projector(database_settings, redis_settings, nats_settings, json.dumps(BOARDS))
            )
        scores = await stack.enter_async_context(running(settings))
        bus = await stack.enter_async_context(await connect(nats_settings, "test"))
        yield World(database, scores, RestrictionStore(database.engine), RankingStore(client), bus)
    await client.aclose()


async def test_a_ban_takes_a_user_out_and_back_to_the_very_place(world: World) -> None:
    """Between two users with the same score, who go on playing with others meanwhile."""
    first, ann, last, other = (open_session(name) for name in ("z-first", "ann", "a-last", "other"))
    for session in (first, ann, last, other):
        await world.play(session)
    before = await world.row("ann")
    assert [user for user, _ in await world.settled()] == ["z-first", "ann", "a-last", "other"]

    await world.restrict("ann", "ban")
    assert [user for user, _ in await world.settled()] == ["z-first", "a-last", "other"]
    assert (await world.play(ann)).status_code == httpx.codes.FORBIDDEN
    await world.play(other)
    assert [user for user, _ in await world.settled()] == ["other", "z-first", "a-last"]

    await world.restrict("ann", None)
    assert [user for user, _ in await world.settled()] == ["other", "z-first", "ann", "a-last"]
    assert await world.row("ann") == before
    await world.play(ann)
    assert (await world.settled())[:2] == [("other", 20), ("ann", 20)]


async def test_a_hidden_user_goes_on_scoring_unseen(world: World) -> None:
    """And comes back with all of it, on every board, ranked by when each score was reached."""
    ann, bob = open_session("ann"), open_session("bob")
    for session, points in ((ann, 5), (bob, 7)):
        await world.play(session, "lap", data={"points": points})
    await world.restrict("ann", "hide")
    for points in (9, 7):
        assert (await world.play(ann, "lap", data={"points": points})).json()["score"] == 9
    for board in ("default", "best", "latest"):
        assert await world.settled(board) == [("bob", 7)]
    await world.restrict("ann", None)
    assert await world.settled("default") == [("ann", 21), ("bob", 7)]
    assert await world.settled("best") == [("ann", 9), ("bob", 7)]
    assert await world.settled("latest") == [("bob", 7), ("ann", 7)]


async def test_a_block_only_refuses(world: World) -> None:
    """Who is blocked for a time keeps the place."""
    ann = open_session("ann")
    await world.play(ann)
    await world.restrict("ann", "block")
    assert (await world.play(ann)).status_code == httpx.codes.FORBIDDEN
    assert await world.settled() == [("ann", 10)]


async def test_restrictions_outlast_a_reset(world: World) -> None:
    """Who is hidden stays so in the new season; who was banned over it has no score there, and the old one is kept."""
    ann, bob, eve = (open_session(name) for name in ("ann", "bob", "eve"))
    for session in (ann, bob, eve):
        await world.play(session)
    await world.restrict("ann", "hide")
    await world.restrict("bob", "ban")
    await world.reset()
    assert await world.settled() == []
    assert (await world.play(ann)).json()["score"] == 10
    await world.play(eve)
    assert await world.settled() == [("eve", 10)]
    await world.restrict("ann", None)
    await world.restrict("bob", None)
    assert await world.settled() == [("ann", 10), ("eve", 10)]
    await world.play(bob)
    assert await world.settled() == [("ann", 10), ("eve", 10), ("bob", 10)]
    await world.database.archive_all()
    archived = await world.database.rows("SELECT user_id, score FROM season_score ORDER BY user_id")
    assert archived == [("ann", 10), ("bob", 10), ("eve", 10)]


async def test_an_empty_season_is_shown_at_once(world: World) -> None:
    """A reset begins a new epoch with an empty top, although nobody plays on."""
    await world.play(open_session("ann"))
    await world.settled()
    before = await world.rankings.state("default")
    await world.reset()
    assert await world.settled() == []
    state, top = await world.rankings.state("default"), await world.rankings.top("default")
    assert top is not None
    assert (state.season, top.rankings) == (2, ())
    assert state.epoch is not None
    assert before.epoch is not None
    assert state.epoch > before.epoch


@pytest.mark.parametrize("seed", range(3))
async def test_any_mixture_ends_at_what_sql_says(world: World, seed: int) -> None:
    """Updates, restrictions, resets and the archive at the same time, in an order that chance decides."""
    chance = random.Random(seed)
    sessions = [open_session(f"u{number}") for number in range(6)]
    accepted = dict.fromkeys((session.user_id for session in sessions), 0)

    async def play(session: Session) -> None:
        for _ in range(25):
            if (await world.play(session)).status_code == httpx.codes.OK:
                accepted[session.user_id] += 1

    async def restrict() -> None:
        kinds: list[Kind | None] = ["ban", "hide", "block", None]
        for _ in range(30):
            await world.restrict(chance.choice(sessions).user_id, chance.choice(kinds))

    async def reset() -> None:
        for _ in range(3):
            await asyncio.sleep(chance.random() / 3)
            await world.reset()
            await world.database.archive_all()

    await asyncio.gather(restrict(), reset(), *(play(session) for session in sessions))
    await world.settled()
    for session in sessions:
        await world.restrict(session.user_id, None)
    await world.settled()
    assert await world.database.one("SELECT count(*) FROM user_score WHERE hidden") == 0
    await world.reset()
    assert await world.settled() == []
    await world.database.archive_all()
    sums = await world.database.rows(
        "SELECT user_id, CAST(sum(score) AS bigint) / 10 FROM season_score GROUP BY user_id"
    )
    assert {user: int(count) for user, count in sums} == {user: count for user, count in accepted.items() if count}
