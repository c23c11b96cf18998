"""Leases on connections in Redis Cluster, counted across pods, in one sorted set for each user and address."""

from collections.abc import Awaitable, Sequence
from typing import Any, Final, cast

from redis.asyncio.cluster import RedisCluster

from podium.scoreboard.scripts import Script, outage_mapped


class LeaseStore:
    """Takes, renews and gives back leases. Methods raise StoreUnavailable("redis") where the cluster is away."""

    SECONDS: Final = 30
    """How long a lease lasts; pods renew theirs well before."""

    RENEWED_PER_CALL: Final = 500

    _lease = Script("lease", shared=False)
    _renew = Script("renew", shared=False)

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis

    async def acquire(self, key: str, connection: str, limit: int) -> bool:
        """Take a lease under ``key`` unless ``limit`` are held."""
        async with outage_mapped("lease"):
            return bool(await self._lease(self._redis, [key], connection, limit, self.SECONDS))

    async def renew(self, key: str, connections: Sequence[str]) -> None:
        """Renew leases under ``key``, lost ones included."""
        async with outage_mapped("renew"):
            for start in range(0, len(connections), self.RENEWED_PER_CALL):
                part = connections[start : start + self.RENEWED_PER_CALL]
                await self._renew(self._redis, [key], self.SECONDS, *part)

    async def release(self, key: str, connection: str) -> None:
        """Give a lease back."""
        async with outage_mapped("release"):
            await cast(Awaitable[Any], self._redis.zrem(key, connection))
