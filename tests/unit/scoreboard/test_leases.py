"""Limits on connections: what a pod counts by itself, and what it does with the store's answers."""

import asyncio
from typing import Any, cast

from podium.scoreboard.lease_store import Answer, LeaseStore
from podium.scoreboard.leases import Lease, Limiter


class Store:
    """Keeps what is asked; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Answer]] = []
        self.released: list[str] = []

    def acquire(self, key: str, connection: str, limit: int, answer: Answer) -> None:
        self.asked.append((key, answer))

    def release(self, key: str, connection: str) -> None:
        self.released.append(key)

    def answer(self, *answers: bool | None) -> None:
        """Answer what was asked first."""
        for answer in answers:
            _, told = self.asked.pop(0)
            told(answer)


def limiter(**limits: int) -> tuple[Store, Limiter, list[Lease | None]]:
    store = Store()
    made = Limiter(cast(LeaseStore, store), "pod", **{"per_user": 5, "per_ip": 50, **limits})
    return store, made, []


def test_a_lease_needs_both_keys() -> None:
    """The address and the user are asked for together; one refusal gives both back."""
    store, made, done = limiter()
    made.request("192.0.2.7", "ann", done.append)
    assert [key for key, _ in store.asked] == ["conn:ip:192.0.2.7", "conn:user:ann"]
    store.answer(True, False)
    assert done == [None]
    assert store.released == ["conn:ip:192.0.2.7", "conn:user:ann"]
    made.request("192.0.2.7", "ann", done.append)
    store.answer(True, True)
    assert done[1] is not None
    assert done[1].keys == ("conn:ip:192.0.2.7", "conn:user:ann")


def test_a_pods_own_count_refuses_without_the_store() -> None:
    """Requests that are under way count, too."""
    store, made, done = limiter(per_ip=2)
    for _ in range(3):
        made.request("192.0.2.7", None, done.append)
    assert (done, len(store.asked)) == ([None], 2)
    store.answer(True, True)
    (first, second) = [lease for lease in done[1:] if lease is not None]
    made.release(first)
    made.request("192.0.2.7", None, done.append)
    store.answer(True)
    assert done[-1] is not None
    assert second.connection != done[-1].connection


def test_while_redis_is_away_the_pods_count_bounds() -> None:
    """Who asks gets a lease at once, up to the limit; Redis is not asked again for a while, nor told."""
    store, made, done = limiter(per_ip=2)
    made.request("192.0.2.7", None, done.append)
    store.answer(None)
    made.request("192.0.2.7", None, done.append)
    made.request("192.0.2.7", None, done.append)
    assert [lease is not None for lease in done] == [True, True, False]
    assert done[0] is not None
    made.release(done[0])
    assert (store.asked, store.released) == ([], [])


async def test_a_lease_that_nobody_waits_for_any_more_is_given_back() -> None:
    """A client that left during its handshake holds nothing."""
    store, made, _ = limiter()
    waiting: asyncio.Task[Any] = asyncio.create_task(made.acquire("192.0.2.7", None))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    store.answer(True)
    assert store.released == ["conn:ip:192.0.2.7"]


async def test_an_anonymous_connection_becomes_a_users() -> None:
    """It then holds both; at the user's limit it holds nothing."""
    store, made, _ = limiter()
    lease = Lease("pod:1", ("conn:ip:192.0.2.7",))
    for granted, keys in ((True, ("conn:ip:192.0.2.7", "conn:user:ann")), (False, None)):
        waiting = asyncio.create_task(made.add_user(lease, "ann"))
        await asyncio.sleep(0)
        store.answer(granted)
        grown = await waiting
        assert (grown.keys if grown else None) == keys
    assert "conn:ip:192.0.2.7" in store.released
