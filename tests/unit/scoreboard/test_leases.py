"""Limits on connections: what a pod counts by itself, and what it does with the store's answers."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from podium.scoreboard.lease_store import Answer, LeaseStore
from podium.scoreboard.leases import Lease, Limiter


class Store:
    """Keeps what is asked; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Answer]] = []
        self.released: list[str] = []
        self.renewed: list[tuple[str, int]] = []

    def acquire(self, key: str, connection: str, limit: int, answer: Answer) -> None:
        self.asked.append((key, answer))

    def renew(self, key: str, connections: Sequence[str], answer: Answer) -> None:
        self.renewed.append((key, len(connections)))
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


def hold(store: Store, made: Limiter, connections: int, addresses: int) -> list[Lease]:
    """Leases of so many connections from so many addresses."""
    done: list[Lease | None] = []
    for number in range(connections):
        made.request(f"192.0.2.{number % addresses}", None, done.append)
        store.answer(True)
    return [lease for lease in done if lease is not None]


async def test_every_lease_is_renewed_once_in_a_round() -> None:
    """Many of one address by a few commands, and those of many addresses turn by turn."""
    for addresses, expected in ((1, {50, 20}), (60, {2})):
        store, made, _ = limiter(per_ip=200)
        held = hold(store, made, 120, addresses)
        round_ = asyncio.create_task(made.renew(over_seconds=0.05))
        while not round_.done():
            store.answer(*[True] * len(store.asked))
            await asyncio.sleep(0)
        assert {size for _, size in store.renewed} == expected
        assert sum(size for _, size in store.renewed) == len(held) == 120
        assert {key for key, _ in store.renewed} == {key for lease in held for key in lease.keys}


async def test_a_round_without_leases_takes_its_time() -> None:
    """A pod without connections does not turn in circles."""
    _, made, _ = limiter()
    waiting = asyncio.create_task(made.renew(over_seconds=60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_connection_that_closes_during_its_renewal_is_given_back() -> None:
    """The release came first, and the renewal brought the lease back; one that closed before is not renewed."""
    store, made, _ = limiter()
    first, second = hold(store, made, 2, 2)
    renewing = asyncio.create_task(made.renew())
    made.release(first)
    await asyncio.sleep(0.01)
    assert store.renewed == [(second.keys[0], 1)]
    made.release(second)
    store.released.clear()
    store.answer(True)
    await renewing
    assert store.released == [second.keys[0]]


async def test_a_round_goes_on_where_redis_does_not_answer() -> None:
    """The next round tries again; leases last for three."""
    store, made, _ = limiter()
    hold(store, made, 2, 2)
    renewing = asyncio.create_task(made.renew())
    while len(store.renewed) < 2:
        await asyncio.sleep(0)
    store.answer(None, True)
    await renewing
