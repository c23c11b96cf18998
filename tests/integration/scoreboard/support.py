"""A stand-in for the scores service: rows in PostgreSQL and the events that tell of them."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.common.bus import SCORE_UPDATED, Bus, connect
from podium.common.database import make_engine
from podium.common.redis import make_redis
from podium.common.settings import DatabaseSettings, NatsSettings, ProcessSettings, RedisSettings, RulesSettings
from podium.scoreboard.domain import Ranking, timestamp
from podium.scoreboard.projector.app import Projector, ProjectorSettings
from podium.scoreboard.settings import PurgeSettings
from podium.scoreboard.store import RankingStore

_ADD = text("""
    INSERT INTO user_score AS u (board, user_id, username, score, version, reached_at, last_updated, total_actions)
    VALUES (:board, :user, :name, :points, 1, now(), now(), 1)
    ON CONFLICT (board, user_id) DO UPDATE SET score = u.score + excluded.score, version = u.version + 1,
        reached_at = excluded.reached_at, last_updated = excluded.last_updated, total_actions = u.total_actions + 1
    RETURNING score, version, reached_at
""")


@dataclass
class Game:
    """Scores points as the scores service would: first committed, then told."""

    engine: AsyncEngine
    bus: Bus
    store: RankingStore

    async def commit(self, user: str, points: int, *, board: str = "default", trace: str | None = None) -> bytes:
        """Add points and answer the event that tells of it."""
        values = {"board": board, "user": user, "name": f"Name of {user}", "points": points}
        async with self.engine.begin() as connection:
            row = (await connection.execute(_ADD, values)).one()
        return event([update(user, row.score, row.version, row.reached_at, board=board, trace=trace)])

    async def tell(self, payload: bytes, trace: str | None = None) -> None:
        """Publish an event as the scores service does."""
        await self.bus.publish(SCORE_UPDATED, payload, message_id=str(uuid.uuid4()), traceparent=trace)

    async def score(self, user: str, points: int, *, board: str = "default", trace: str | None = None) -> None:
        """Add points and tell of it."""
        await self.tell(await self.commit(user, points, board=board, trace=trace))

    async def truth(self, limit: int = 1000, *, board: str = "default") -> tuple[Ranking, ...]:
        """The ranking by SQL."""
        query = text(
            "SELECT user_id, username, score FROM user_score WHERE board = :board AND NOT hidden"
            " ORDER BY score DESC, reached_at, user_id LIMIT :limit"
        )
        async with self.engine.connect() as connection:
            rows = (await connection.execute(query, {"board": board, "limit": limit})).all()
        return tuple(Ranking(row.user_id, row.username, row.score, rank) for rank, row in enumerate(rows, 1))


def update(
    user: str,
    score: int,
    version: int,
    reached_at: datetime,
    *,
    board: str = "default",
    hidden: bool = False,
    trace: str | None = None,
) -> dict[str, Any]:
    """One entry of an event."""
    return {
        "board": board,
        "userId": user,
        "username": f"Name of {user}",
        "score": score,
        "version": version,
        "reachedAt": timestamp(reached_at),
        "acceptedAt": timestamp(reached_at),
        "hidden": hidden,
        "traceparent": trace,
    }


def event(updates: Sequence[dict[str, Any]]) -> bytes:
    """The event of one commit."""
    return msgspec.json.encode({"eventId": str(uuid.uuid4()), "updates": updates})


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, *, within: timedelta = timedelta(seconds=30)
) -> None:
    """Wait for a condition; fails with ``what`` when it never comes true."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


@contextlib.asynccontextmanager
async def running_game(database: DatabaseSettings, redis: RedisSettings, nats: NatsSettings) -> AsyncIterator[Game]:
    """A game on the stores of a test."""
    engine, client = make_engine(database), make_redis(redis)
    bus = await connect(nats, "game")
    try:
        yield Game(engine, bus, RankingStore(client))
    finally:
        await bus.close()
        await client.aclose()
        await engine.dispose()


@contextlib.asynccontextmanager
async def running_projector(
    database: DatabaseSettings,
    redis: RedisSettings,
    nats: NatsSettings,
    boards: str = '[{"name":"default"}]',
    purge: PurgeSettings | None = None,
) -> AsyncIterator[Projector]:
    """A projector's loops in this process, ready inside the block."""
    settings = ProjectorSettings(
        process=ProcessSettings(pod="test"),
        database=database,
        redis=redis,
        nats=nats,
        rules=RulesSettings(boards=boards),
        purge=purge or PurgeSettings(),
    )
    projector = Projector(settings)
    task = asyncio.create_task(projector.run())

    async def ready() -> bool:
        if task.done():
            task.result()
        return projector.ready()

    try:
        await until(ready, "the projector is ready")
        yield projector
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
