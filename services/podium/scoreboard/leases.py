"""How many connections a user and an address may hold, counted across all pods.

Each connection is a lease in Redis that its pod renews; leases of a pod that died run out by themselves. While Redis is
away the pod's own count bounds its own connections.
"""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from podium.common.problems import StoreUnavailable
from podium.scoreboard.lease_store import LeaseStore

RENEW_SECONDS = 10.0
"""A third of a lease's length: two renewals may fail."""

STORE_SECONDS = 1.0
"""How long a handshake waits for Redis."""

AWAY_SECONDS = 2.0
"""How long Redis is not asked again after it gave no answer: handshakes must not wait one after another."""

RENEWALS_AT_ONCE = 16

_log = structlog.get_logger("podium.scoreboard.leases")


@dataclass(frozen=True, slots=True)
class Lease:
    """What one connection holds."""

    connection: str
    keys: tuple[str, ...]


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

    async def acquire(self, address: str, user: str | None) -> Lease | None:
        """A lease for a connection from ``address`` of ``user`` (None: anonymous), or None where a limit is reached."""
        connection = f"{self._owner}:{next(self._numbers)}"
        lease = Lease(connection, ())
        if (lease_of_address := await self._add(lease, f"conn:ip:{address}", self._per_ip)) is None:
            return None
        return await self.add_user(lease_of_address, user) if user is not None else lease_of_address

    async def add_user(self, lease: Lease, user: str) -> Lease | None:
        """Count the connection for ``user``, too; None, and nothing held any more, where the limit is reached."""
        grown = await self._add(lease, f"conn:user:{user}", self._per_user)
        if grown is None:
            await self.release(lease)
        return grown

    async def _add(self, lease: Lease, key: str, limit: int) -> Lease | None:
        held = self._held[key]
        if len(held) >= limit:
            return None
        held.add(lease.connection)
        granted = True  # where Redis is away, this pod's own count, which has been looked at, must do
        try:
            if time.monotonic() >= self._away_until:
                async with asyncio.timeout(STORE_SECONDS):
                    granted = await self._store.acquire(key, lease.connection, limit)
        except (StoreUnavailable, TimeoutError):
            self._away_until = time.monotonic() + AWAY_SECONDS
        except BaseException:
            self._drop(key, lease.connection)
            raise
        if granted:
            return Lease(lease.connection, (*lease.keys, key))
        self._drop(key, lease.connection)
        return None

    def _drop(self, key: str, connection: str) -> None:
        held = self._held.get(key)
        if held is not None:
            held.discard(connection)
            if not held:
                del self._held[key]

    async def release(self, lease: Lease) -> None:
        """Give a lease back; where Redis is away it runs out."""
        for key in lease.keys:
            self._drop(key, lease.connection)
        for key in lease.keys:
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    await self._store.release(key, lease.connection)
            except (StoreUnavailable, TimeoutError):
                return

    async def renew_loop(self) -> None:
        """Renew all leases for ever."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()

    async def renew(self) -> None:
        """Renew all leases once."""
        slots = asyncio.Semaphore(RENEWALS_AT_ONCE)
        held = [(key, tuple(connections)) for key, connections in self._held.items() if connections]

        async def one(key: str, connections: Sequence[str]) -> bool:
            async with slots:
                try:
                    await self._store.renew(key, connections)
                except StoreUnavailable:
                    return False
            # Closed while the call was on its way: the release came first, and this brought it back.
            for gone in set(connections) - self._held.get(key, set()):
                await self.release(Lease(gone, (key,)))
            return True

        done = await asyncio.gather(*(one(key, connections) for key, connections in held))
        if not all(done):
            _log.warning("leases could not be renewed", failed=done.count(False), of=len(done))
