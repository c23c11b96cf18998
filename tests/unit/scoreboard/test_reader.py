"""What readers get while Redis is away, and who is not in it."""

import json
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from podium.common.bus import user_token
from podium.common.problems import Problem, StoreUnavailable
from podium.common.security_state import RESTRICTED_PREFIX, SecurityState
from podium.scoreboard import metrics
from podium.scoreboard.breaker import CircuitBreaker
from podium.scoreboard.domain import Page, Ranking, Snapshot, Tops
from podium.scoreboard.reader import Reader
from podium.scoreboard.store import RankingStore
from tests.unit.scoreboard.counting import counted

AT = "2026-01-01T00:00:00Z"
PLAYERS = tuple(Ranking(f"u{rank}", f"User {rank}", 1000 - rank, rank) for rank in range(1, 41))


class Store(RankingStore):
    """A ranking of forty that can go away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("redis")

    async def page(self, board: str, limit: int) -> Page:
        self._ask()
        return Page(PLAYERS[:limit], AT, board, 1, 1)

    async def standing(self, board: str, user_id: str, around: int) -> tuple[Page, int, int]:
        self._ask()
        rank = int(user_id.removeprefix("u"))
        return Page(PLAYERS[max(0, rank - 1 - around) : rank + around], AT, board, 1, 1), rank, len(PLAYERS)


class World:
    """A reader, what it reads from, and what it knows."""

    def __init__(self) -> None:
        self.tops, self.store, self.security = Tops(), Store(), SecurityState()
        self.tops.offer(Snapshot("default", 1, 1, PLAYERS[:10], AT))
        self.reader = Reader({"default": 10}, (), self.tops, self.store, self.security)

    def restrict(self, user_id: str, kind: str | None = "ban") -> None:
        """A restriction comes, or ends."""
        value = None if kind is None else msgspec.json.encode({"kind": kind})
        self.security.apply(RESTRICTED_PREFIX + user_token(user_id), value)

    async def users(self, limit: int | None) -> list[tuple[int, str]]:
        """Rank and user of each place of a page."""
        body, _ = await self.reader.page("default", limit)
        return [(place["rank"], place["userId"]) for place in json.loads(body)["rankings"]]


async def test_who_is_banned_is_in_no_answer_from_then_on() -> None:
    """Also while the next snapshot has to wait for Redis; and is back when the ban ends."""
    world = World()
    before = world.reader.in_memory("default", None)
    await world.users(40)
    world.store.away = True
    world.restrict("u3")
    assert await world.users(None) == [(1, "u1"), (2, "u2"), *((rank - 1, f"u{rank}") for rank in range(4, 11))]
    deep = await world.users(20)
    assert "u3" not in {user for _, user in deep}
    assert [rank for rank, _ in deep] == list(range(1, 21))
    world.restrict("u3", None)
    after = world.reader.in_memory("default", None)
    assert before is not None
    assert after is not None
    assert (after.body, after.tag) == (before.body, before.tag)


async def test_a_restriction_that_has_run_out_hides_nobody() -> None:
    """It stays in memory for a while, and counts no more."""
    world = World()
    world.security.apply(RESTRICTED_PREFIX + user_token("u3"), msgspec.json.encode({"kind": "block", "until": 1.0}))
    assert (3, "u3") in await world.users(None)


async def test_a_longer_page_and_more_neighbours_answer_for_less() -> None:
    """While Redis is away, what was asked for once answers everything that is in it."""
    world = World()
    await world.users(40)
    await world.reader.standing("default", "u20", 5)
    world.store.away = True
    for limit in (11, 25, 40):
        assert await world.users(limit) == [(rank, f"u{rank}") for rank in range(1, limit + 1)]
    for around in (0, 2, 5):
        found = json.loads(await world.reader.standing("default", "u20", around))
        assert [place["rank"] for place in found["neighbours"]] == list(range(20 - around, 21 + around))
    with pytest.raises(Problem) as caught:
        await world.reader.standing("default", "u20", 6)
    assert caught.value.status == 503


async def test_reads_are_counted_by_where_the_answer_came_from() -> None:
    """Memory, Redis, or the last good answer while Redis has none."""
    world = World()
    kinds = (metrics.CACHE_HITS, metrics.CACHE_MISSES, metrics.CACHE_STALE)

    async def counts(read: Awaitable[object]) -> list[float]:
        before = [counted(each) for each in kinds]
        await read
        return [counted(each) - old for each, old in zip(kinds, before, strict=True)]

    assert await counts(world.users(None)) == [1, 0, 0]
    assert await counts(world.users(20)) == [0, 1, 0]
    assert await counts(world.reader.standing("default", "u20", 2)) == [0, 1, 0]
    world.store.away = True
    assert await counts(world.users(20)) == [0, 1, 1]
    assert await counts(world.reader.standing("default", "u20", 2)) == [0, 1, 1]
    assert await counts(world.users(10)) == [1, 0, 0]


async def test_an_outage_is_waited_for_once() -> None:
    """After one call has failed, readers are answered at once; another call looks whether it is over."""
    now = [100.0]
    breaker, store = CircuitBreaker(2.0, lambda: now[0]), Store()

    async def works() -> bool:
        call: Callable[[], Awaitable[Page]] = lambda: store.page("default", 20)  # noqa: E731
        try:
            return bool(await breaker(call))
        except StoreUnavailable:
            return False

    assert await works()
    store.away = True
    assert [await works() for _ in range(5)] == [False] * 5
    assert store.asked == 2
    store.away = False
    assert not await works()
    now[0] += 2
    assert [await works() for _ in range(2)] == [True, True]
    assert store.asked == 4
