"""Specification of the short way of reads: the same answers as the route gives, and only what it may answer."""

import itertools
from collections.abc import Mapping

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from podium.common import problems
from podium.common.security_state import SecurityState
from podium.scoreboard.domain import Ranking, Snapshot, Tops
from podium.scoreboard.lean import LeanReads
from podium.scoreboard.metrics import CACHE_HITS
from podium.scoreboard.reader import Reader
from podium.scoreboard.routes import PATH, make_router
from podium.scoreboard.settings import CacheSettings
from podium.scoreboard.store import RankingStore
from tests.unit.scoreboard.counting import counted

SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"
USUAL = ["", "board=default", "limit=3", "board=default&limit=3", "board=other", "board=other&limit=12"]
UNUSUAL = ["limit=3&board=default", "board=def%61ult", "board=default&", "&limit=3"]
WRONG = [
    *("board=none", "limit=0", "limit=1001", "limit=03", "limit=1_0", "limit=", "board=", "x=1", "limit=3&limit=3"),
    *("board=Default", "board=defaultlimit=3", "board=default&limit=+3"),
]


class Nobody(RankingStore):
    """A store that must not be asked."""

    def __init__(self) -> None:
        pass


def snapshot(board: str, places: int, version: int = 1) -> Snapshot:
    """A top with so many places."""
    rankings = tuple(Ranking(f"u{rank}", f"User {rank}", 1000 - rank, rank) for rank in range(1, places + 1))
    return Snapshot(rankings=rankings, last_updated="2026-01-01T00:00:00Z", board=board, epoch=1, version=version)


@pytest.fixture
def tops() -> Tops:
    """Two boards: a full top of ten, and one with four places so far."""
    tops = Tops()
    tops.offer(snapshot("default", 10))
    tops.offer(snapshot("other", 4))
    return tops


class Went:
    """Counts the requests that took the long way."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += 1
        await self.app(scope, receive, send)


@pytest.fixture
def apps(tops: Tops) -> tuple[Went, LeanReads]:
    """The app with and without the short way."""
    cache = CacheSettings()
    reader = Reader({"default": 10, "other": 10}, (), tops, Nobody(), SecurityState())
    app = FastAPI()
    problems.install(app)
    app.include_router(make_router(cache, lambda: reader, lambda: pytest.fail("no gateway here")))
    went = Went(app)
    return went, LeanReads(went, reader=lambda: reader, cache=cache, own_traces=False)


async def get(app: Went | LeanReads, query: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Read."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://podium.test") as http:
        return await http.get(f"{PATH}?{query}" if query else PATH, headers=dict(headers or {}))


def shown(response: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """All that a client sees but for the trace of a problem."""
    body = response.content if response.status_code < 400 else response.json()["type"].encode()
    headers = {name: value for name, value in response.headers.items() if response.status_code < 400}
    return response.status_code, headers, body


@pytest.mark.parametrize("query", USUAL)
async def test_the_usual_read_takes_the_short_way(apps: tuple[Went, LeanReads], query: str) -> None:
    """What is in memory is answered at once."""
    went, lean = apps
    hits = counted(CACHE_HITS)
    assert (await get(lean, query)).status_code == 200
    assert went.count == 0
    assert counted(CACHE_HITS) == hits + 1


@pytest.mark.parametrize("query", USUAL + UNUSUAL + WRONG)
async def test_both_ways_give_the_same(apps: tuple[Went, LeanReads], query: str) -> None:
    """The same status, headers and bytes, in full and for every kind of condition."""
    went, lean = apps
    tag = (await get(went, query)).headers.get("etag", '"none"')
    conditions = (None, tag, f"W/{tag}", f'"x", {tag}', "*", '"x"', "")
    for condition, trace in itertools.product(conditions, (None, UNSAMPLED, SAMPLED, "nonsense")):
        headers = {
            name: value for name, value in (("if-none-match", condition), ("traceparent", trace)) if value is not None
        }
        assert shown(await get(lean, query, headers)) == shown(await get(went, query, headers)), headers


async def test_a_new_top_is_seen_at_once(apps: tuple[Went, LeanReads], tops: Tops) -> None:
    """The ready answer is that of the newest snapshot, and its validator another."""
    _, lean = apps
    before = await get(lean, "")
    tops.offer(snapshot("default", 10, version=2))
    after = await get(lean, "", {"if-none-match": before.headers["etag"]})
    assert (after.status_code, after.json()["version"]) == (200, 2)
    assert after.headers["etag"] != before.headers["etag"]


@pytest.mark.parametrize("trace", [SAMPLED, "nonsense"])
async def test_a_traced_read_takes_the_long_way(apps: tuple[Went, LeanReads], trace: str) -> None:
    """Its spans are made there."""
    went, lean = apps
    await get(lean, "", {"traceparent": trace})
    assert went.count == 1
