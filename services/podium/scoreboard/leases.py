"""How many connections a user and an address may hold, counted across all pods.

Each connection is a lease in Redis that its pod renews; leases of a pod that died run out by themselves. While Redis is
away the pod's own count bounds its own connections.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from podium.common.loops import heed_cancellation
from podium.scoreboard.lease_store import LeaseStore

RENEW_SECONDS = 10.0
"""A third of a lease's length: two renewals may fail."""

AWAY_SECONDS = 2.0
"""How long Redis is not asked again after it gave no answer: handshakes must not wait one after another."""

RENEWAL_TURNS = 40
"""Into how many turns a round of renewals is split: broadcasts wait for none of them."""

RENEWED_TOGETHER = 50
"""Leases of one key that are renewed by one command."""

_log = structlog.get_logger("podium.scoreboard.leases")


@dataclass(frozen=True, slots=True)
class Lease:
    """What one connection holds."""

    connection: str
    keys: tuple[str, ...]


class _Request:
    """A lease of which the store is asked for each key; refused if one is."""

    __slots__ = ("done", "granted", "lease", "waiting")

    def __init__(self, lease: Lease, done: Callable[["_Request"], None]) -> None:
        self.lease = lease
        self.waiting = len(lease.keys)
        self.granted = True
        self.done = done

    def answered(self, granted: bool | None) -> None:
        """One key is granted, refused, or (None) not known to Redis, where the pod's own count has to do."""
        self.granted = self.granted and granted is not False
        self.waiting -= 1
        if not self.waiting:
            self.done(self)


class Limiter:
    """Grants leases. ``owner`` names this process; limits are connections per user and per address."""

    def __init__(self, store: LeaseStore, owner: str, *, per_user: int, per_ip: int) -> None:
        self._store = store
        self._owner = owner
        self._per_user = per_user
        self._per_ip = per_ip
        self._numbers = itertools.count()
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        self._away_until = 0.0

    def request(self, address: str, user: str | None, done: Callable[[Lease | None], None]) -> None:
        """Ask for a lease for a connection from ``address`` of ``user`` (None: anonymous).

        ``done`` is called, perhaps at once, with the lease, or with None where a limit is reached.
        """
        connection = f"{self._owner}:{next(self._numbers)}"
        limits = {f"conn:ip:{address}": self._per_ip}
        if user is not None:
            limits[f"conn:user:{user}"] = self._per_user
        self._request(Lease(connection, tuple(limits)), limits, done)

    async def acquire(self, address: str, user: str | None) -> Lease | None:
        """``request`` for one who can wait."""
        return await self._wait(partial(self.request, address, user))

    async def add_user(self, lease: Lease, user: str) -> Lease | None:
        """Count the connection for ``user``, too; None, and nothing held any more, where the limit is reached."""
        key = f"conn:user:{user}"
        added = await self._wait(partial(self._request, Lease(lease.connection, (key,)), {key: self._per_user}))
        if added is None:
            self.release(lease)
            return None
        return Lease(lease.connection, (*lease.keys, key))

    async def _wait(self, request: Callable[[Callable[[Lease | None], None]], None]) -> Lease | None:
        future: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()

        def done(lease: Lease | None) -> None:
            if not future.done():
                future.set_result(lease)
            elif lease is not None:  # nobody waits any more
                self.release(lease)

        request(done)
        return await future

    def _request(self, lease: Lease, limits: dict[str, int], done: Callable[[Lease | None], None]) -> None:
        for key, limit in limits.items():
            if len(self._held.get(key, ())) >= limit:
                done(None)
                return
        for key in limits:
            self._held[key].add(lease.connection)
        if time.monotonic() < self._away_until:
            done(lease)
            return

        def answered(request: _Request) -> None:
            if request.granted:
                done(lease)
            else:
                self.release(lease)
                done(None)

        request = _Request(lease, answered)
        for key, limit in limits.items():
            self._store.acquire(key, lease.connection, limit, partial(self._answered, request))

    def _answered(self, request: _Request, granted: bool | None) -> None:
        if granted is None:
            self._away_until = time.monotonic() + AWAY_SECONDS
        request.answered(granted)

    def release(self, lease: Lease) -> None:
        """Give a lease back; where Redis is away it runs out."""
        away = time.monotonic() < self._away_until
        for key in lease.keys:
            held = self._held.get(key)
            if held is not None:
                held.discard(lease.connection)
                if not held:
                    del self._held[key]
            if not away:
                self._store.release(key, lease.connection)

    async def renew_loop(self) -> None:
        """Renew all leases for ever."""
        while True:
            heed_cancellation()
            await self.renew(over_seconds=RENEW_SECONDS)

    async def renew(self, over_seconds: float = 0.0) -> None:
        """Renew all leases once, in turns that are spread over some seconds."""
        parts = [
            (key, connections)
            for key, held in self._held.items()
            for connections in _parts(sorted(held), RENEWED_TOGETHER)
        ]
        turns = min(RENEWAL_TURNS, len(parts)) or 1
        answers: list[asyncio.Future[bool]] = []
        for turn in range(turns):
            answers += [self._renewed(key, connections) for key, connections in parts[turn::turns]]
            await asyncio.sleep(over_seconds / turns)
        failed = (await asyncio.gather(*answers)).count(False)
        if failed:
            _log.warning("leases could not be renewed", failed=failed, of=len(answers))

    def _renewed(self, key: str, connections: Sequence[str]) -> "asyncio.Future[bool]":
        """Renew leases of one key; whether Redis did."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        renewing = [one for one in connections if one in self._held.get(key, ())]

        def answered(renewed: bool | None) -> None:
            # Closed while the command was on its way: the release came first, and this brought it back.
            for gone in set(renewing) - self._held.get(key, set()):
                self.release(Lease(gone, (key,)))
            if not done.done():
                done.set_result(renewed is not None)

        if renewing:
            self._store.renew(key, renewing, answered)
        else:
            done.set_result(True)
        return done


def _parts(connections: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(connections), size):
        yield connections[start : start + size]
