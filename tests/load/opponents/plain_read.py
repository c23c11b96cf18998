"""The opponents of ``make bench-read``: the top of a board with FastAPI and Redis, as one would write it first.

``python -m tests.load.opponents.plain_read``. ``/api/v1/scoreboard`` makes the answer of a ZSET and two hashes, in two
round trips, with a response model. ``/api/v1/scoreboard/document`` does the least there can be with these two: one GET
of the finished document, handed on as it is. Neither keeps anything in memory.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Query, Response
from pydantic import BaseModel
from redis.asyncio.cluster import ClusterNode, RedisCluster

RANK_KEY = "{plain:default}:rank"
NAMES_KEY = "{plain:default}:names"
STATE_KEY = "{plain:default}:state"
DOCUMENT_KEY = "{plain:default}:document"
"""ZSET user → score, hash user → name, hash with epoch, version and time, finished answer; one hash tag: one node."""

PATH = "/api/v1/scoreboard"
DOCUMENT_PATH = "/api/v1/scoreboard/document"


class Entry(BaseModel):
    """One place of the ranking."""

    userId: str  # noqa: N815 - the wire's names
    username: str
    score: int
    rank: int


class Scoreboard(BaseModel):
    """The answer, with the same fields as Podium's."""

    rankings: list[Entry]
    lastUpdated: str | None  # noqa: N815
    board: str
    epoch: int
    version: int


def _connect() -> "RedisCluster":
    nodes = [node.rpartition(":") for node in os.environ["PODIUM_REDIS_NODES"].split(",")]
    return RedisCluster(
        startup_nodes=[ClusterNode(host, int(port)) for host, _, port in nodes],
        password=os.environ["PODIUM_REDIS_PASSWORD"],
        decode_responses=True,
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect once for the process."""
    app.state.redis = _connect()
    await app.state.redis.initialize()
    yield
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.get(PATH)
async def scoreboard(limit: Annotated[int, Query(ge=1, le=1000)] = 10) -> Scoreboard:
    """The first ``limit`` users of the board."""
    redis: RedisCluster = app.state.redis
    pipeline = redis.pipeline()
    pipeline.zrange(RANK_KEY, 0, limit - 1, desc=True, withscores=True)
    pipeline.hgetall(STATE_KEY)
    ranking, state = await pipeline.execute()
    users = [user for user, _ in ranking]
    names = await redis.hmget(NAMES_KEY, users) if users else []
    rankings = [
        Entry(userId=user, username=str(name or user), score=int(score), rank=place)
        for place, ((user, score), name) in enumerate(zip(ranking, names, strict=True), 1)
    ]
    return Scoreboard(
        rankings=rankings,
        lastUpdated=state.get("lastUpdated"),
        board="default",
        epoch=int(state.get("epoch", 0)),
        version=int(state.get("version", 0)),
    )


@app.get(DOCUMENT_PATH)
async def document() -> Response:
    """The first ten users of the board, as somebody else wrote them down."""
    return Response(await app.state.redis.get(DOCUMENT_KEY), media_type="application/json")


@app.get("/healthz/ready")
async def ready() -> dict[str, str]:
    """Ready once it has started."""
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(
        app,
        host=os.environ["PODIUM_HOST"],
        port=int(os.environ["PODIUM_PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
