"""A real shared cache in front of the service: Varnish with the VCL of examples/, and real stores behind."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from podium.common.problems import Problem, problem_response
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard import caching
from podium.scoreboard.settings import CacheSettings, PurgeSettings
from tests.integration.scoreboard.clients import message, watching
from tests.integration.scoreboard.services import BOARDS, Issuer, running_scoreboard
from tests.integration.scoreboard.support import Game, running_projector, until
from tests.support.apps import RunningApp, run_app
from tests.support.processes import scratch_directory
from tests.support.varnish import Origin, Varnish

PATH = "/api/v1/scoreboard"
TOKEN = "the-token-of-the-edge"
STALE_SECONDS = 1.0

Stores = tuple[DatabaseSettings, RedisSettings, NatsSettings]


class Edge:
    """A cache, and the origin behind it."""

    def __init__(self, cache: Varnish, origin: RunningApp, http: httpx.AsyncClient) -> None:
        self.cache = cache
        self.origin = origin
        self.http = http
        """Speaks to the cache."""

    async def asked(self) -> int:
        """How often the origin was asked."""
        return (await asyncio.to_thread(self.cache.counters))["backend_req"]

    async def origin_shows(self, version: int) -> bool:
        """Whether the origin has this version, or a later one, of the default board."""
        answer = await self.http.get(self.origin.url + PATH)
        return bool(answer.json()["version"] >= version)

    async def version(self) -> int:
        """The version that the cache shows."""
        return int((await self.http.get(PATH)).json()["version"])

    async def purge(self, token: str = TOKEN, key: str = "scoreboard-default") -> int:
        """Purge a board by hand; answers the status."""
        headers = {"Authorization": f"Bearer {token}", "Surrogate-Key": key}
        return (await self.http.post("/purge", headers=headers)).status_code


@contextlib.asynccontextmanager
async def running_cache(origin: RunningApp, directory: Path) -> AsyncIterator[tuple[Varnish, httpx.AsyncClient]]:
    """Varnish before an origin, and a client of it, inside the block."""
    cache = Varnish(Origin.of(origin.url), directory, TOKEN, STALE_SECONDS)
    try:
        await asyncio.to_thread(cache.start)
        async with httpx.AsyncClient(base_url=cache.url, timeout=20) as http:
            yield cache, http
    finally:
        await asyncio.to_thread(cache.stop)


@contextlib.asynccontextmanager
async def running_edge(stores: Stores, directory: Path, **cache: int) -> AsyncIterator[Edge]:
    """A scoreboard service and a cache before it; ``cache`` are its times in seconds."""
    settings = CacheSettings(stale_while_revalidate=int(STALE_SECONDS), **cache)
    async with (
        running_scoreboard(*stores[1:], Issuer(), cache=settings) as (origin, _),
        running_cache(origin, directory) as (varnish, http),
    ):
        yield Edge(varnish, origin, http)


@pytest.fixture
def stores_settings(
    database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> Stores:
    """Clean stores."""
    return database_settings, redis_settings, nats_settings


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory of the test's own."""
    with scratch_directory() as path:
        yield path


@pytest.fixture
async def edge(game: Game, stores_settings: Stores, directory: Path) -> AsyncIterator[Edge]:
    """A cache that keeps what it has for an hour, and nobody who purges it by himself."""
    async with (
        running_projector(*stores_settings, BOARDS),
        running_edge(stores_settings, directory, s_maxage=3600) as running,
    ):
        yield running


async def test_the_origin_is_asked_once(edge: Edge) -> None:
    """Everyone gets the origin's bytes from the cache, with or without a token."""
    expected = (await edge.http.get(edge.origin.url + PATH)).content
    before = await edge.asked()
    headers = [{}, {"authorization": "Bearer x"}, {"cookie": "a=b"}, {"accept-encoding": "gzip"}] * 5
    answers = await asyncio.gather(*(edge.http.get(PATH, headers=each) for each in headers))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.content for answer in answers} == {expected}
    assert await edge.asked() == before + 1
    assert (await edge.http.get(PATH)).headers["x-cache"] == "hit"


async def test_the_cache_answers_conditions_itself(edge: Edge) -> None:
    """304 for the ETag that it gave, without a word to the origin; the ETag is the origin's own."""
    tag = (await edge.http.get(PATH)).headers["etag"]
    assert tag == (await edge.http.get(edge.origin.url + PATH)).headers["etag"]
    before = await edge.asked()
    answer = await edge.http.get(PATH, headers={"if-none-match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert await edge.asked() == before


@pytest.mark.parametrize(
    ("path", "status"), [(f"{PATH}?limit=0", 400), (f"{PATH}/users/nobody", 404), ("/api/v1/nothing", 404)]
)
async def test_what_is_not_for_everyone_is_asked_for_each_time(edge: Edge, path: str, status: int) -> None:
    """Errors and users' own pages."""
    before = await edge.asked()
    for _ in range(3):
        answer = await edge.http.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
    assert await edge.asked() == before + 3


async def test_a_purge_drops_a_board_at_once(edge: Edge, game: Game) -> None:
    """Until it comes the old top is shown; who has no token purges nothing; another board's stays."""
    before = await edge.version()
    weekly = await edge.http.get(f"{PATH}?board=weekly")
    await game.score("ann", 10)
    await until(lambda: edge.origin_shows(before + 1), "the origin has the new top")
    assert await edge.purge(token="wrong") == 403
    assert await edge.purge(key=".*") == 400
    assert await edge.purge(key="scoreboard-def") == 200
    assert await edge.version() == before, "nothing of this was a purge of the board"
    asked = await edge.asked()
    assert await edge.purge() == 200
    assert await edge.version() == before + 1
    again = await edge.http.get(f"{PATH}?board=weekly")
    assert (again.content, again.headers["x-cache"]) == (weekly.content, "hit")
    assert await edge.asked() == asked + 1


async def test_a_change_reaches_the_cache_by_itself(game: Game, stores_settings: Stores, directory: Path) -> None:
    """The projector purges: what a cache may keep for an hour is new in a moment, at every change."""
    token = directory / "token"
    write(token, TOKEN)
    async with contextlib.AsyncExitStack() as stack:
        starter = await stack.enter_async_context(contextlib.AsyncExitStack())
        await starter.enter_async_context(running_projector(*stores_settings, BOARDS))  # the service needs a first top
        edge = await stack.enter_async_context(running_edge(stores_settings, directory, s_maxage=3600))
        await starter.aclose()
        settings = PurgeSettings(url=edge.cache.purge_url, form="Bearer", token_file=token, min_interval_seconds=0.1)
        await stack.enter_async_context(running_projector(*stores_settings, BOARDS, purge=settings))
        for score in (10, 20, 30):
            await edge.http.get(PATH)
            await game.score("ann", 10)
            await until(partial(_cache_shows, edge, score), "the cache shows it")


def write(path: Path, text: str) -> None:
    """Make a file."""
    path.write_text(text)


async def _cache_shows(edge: Edge, score: int) -> bool:
    rankings = (await edge.http.get(PATH)).json()["rankings"]
    return bool(rankings) and rankings[0]["score"] == score


async def test_a_dead_origin_leaves_what_is_kept(game: Game, stores_settings: Stores, directory: Path) -> None:
    """Past both of its times the last answer is still given (stale-if-error); what was never kept is 503."""
    async with running_projector(*stores_settings, BOARDS), contextlib.AsyncExitStack() as stack:
        settings = CacheSettings(s_maxage=1, stale_while_revalidate=int(STALE_SECONDS))
        origin_stack = await stack.enter_async_context(contextlib.AsyncExitStack())
        pod = running_scoreboard(*stores_settings[1:], Issuer(), cache=settings)
        origin, _ = await origin_stack.enter_async_context(pod)
        _, http = await stack.enter_async_context(running_cache(origin, directory))
        before = await http.get(PATH)
        await origin_stack.aclose()
        gone = time.monotonic()

        async def is_too_old() -> bool:
            return time.monotonic() - gone > settings.s_maxage + STALE_SECONDS + 0.5

        await until(is_too_old, "the answer is too old to be given without need")
        after = await http.get(PATH)
        assert (after.status_code, after.content) == (200, before.content)
        assert int(after.headers["age"]) >= 2
        never = await http.get(f"{PATH}?limit=3")
        assert (never.status_code, never.headers["cache-control"]) == (503, "no-store")
        assert never.headers["content-type"] == "application/problem+json"


class Stub:
    """An origin that gives the same ranking, or fails, as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        cache = CacheSettings(s_maxage=1, stale_while_revalidate=int(STALE_SECONDS))
        if self.status == 200:
            answer = Response(b"{}", headers=caching.ranking(cache, "default", '"one"'))
        else:
            answer = problem_response(Problem("internal-error", self.status, "as told"), "0" * 32)
        await answer(scope, receive, send)


async def test_an_origin_that_fails_leaves_what_is_kept(directory: Path) -> None:
    """Every 5xx and 429 is covered by an older answer, and asked about again; where there is none it is passed on."""
    stub = Stub()
    async with run_app(stub, lifespan="off") as origin, running_cache(origin, directory) as (_, http):
        await http.get(PATH)

        async def is_too_old() -> bool:
            return int((await http.get(PATH)).headers["age"]) > 1 + STALE_SECONDS

        stub.status = 503
        await until(is_too_old, "the answer is older than both of its times")
        asked = stub.asked
        for _ in range(3):
            assert (await http.get(PATH)).status_code == 200
        assert stub.asked > asked, "it is not waited for the end of the third time"
        stub.status = 429
        assert (await http.get(PATH)).status_code == 200
        never = await http.get(f"{PATH}?limit=3")
        assert (never.status_code, never.json()["detail"]) == (429, "as told")
        stub.status = 200
        answer = await http.get(PATH)
        assert (answer.status_code, answer.headers["age"]) == (200, "0")
        assert (await http.get(f"{PATH}?limit=3")).status_code == 200, "a refusal is not kept"


async def test_live_connections_pass(edge: Edge) -> None:
    """WebSocket and Server-Sent Events go through, and are not kept."""
    through = RunningApp(edge.cache.port, edge.origin.server)
    async with watching(through) as socket:
        assert (await message(socket, "snapshot"))["board"] == "default"
    async with edge.http.stream("GET", f"{PATH}/stream") as stream:
        assert stream.headers["cache-control"] == "no-store"
        assert (await anext(stream.aiter_lines())) == "event: snapshot"
