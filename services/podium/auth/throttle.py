"""A bound on failed client authentications: per client and address, and per address. In Redis, so across pods."""

import hashlib
import time
from collections import OrderedDict
from typing import Final

import structlog
from redis.asyncio.cluster import RedisCluster

from podium.common.metrics import STORE_FAILURES
from podium.common.redis import OUTAGE

WINDOW_SECONDS: Final = 60
"""Length of the window in which failures are counted."""

MAX_FAILURES_PER_CLIENT_AND_IP: Final = 10
"""Failures of one client from one address in a window. Not per client alone: anybody could lock a client out."""

MAX_FAILURES_PER_IP: Final = 30
"""Failures from one address in a window, whatever clients it names."""

LOCAL_ENTRIES: Final = 10_000
"""Counters kept in this process for the time that Redis is away."""

_INCREMENT: Final = "if redis.call('INCR', KEYS[1]) == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end"
"""In one step, so that no counter is ever left without its end."""

_log = structlog.get_logger("podium.auth.throttle")


class FailureThrottle:
    """Counts failures; while Redis is away each pod counts for itself."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis
        self._local: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def is_blocked(self, client_id: str, ip: str) -> bool:
        """Whether this client from this address, or the address, has failed too often."""
        for key, most in _keys(client_id, ip):
            if await self._count(key) >= most:
                return True
        return False

    async def failed(self, client_id: str, ip: str) -> None:
        """Count one failure."""
        for key, _ in _keys(client_id, ip):
            self._count_here(key)
            try:
                await self._redis.eval(_INCREMENT, 1, key, str(WINDOW_SECONDS))
            except OUTAGE:
                STORE_FAILURES.labels("redis", "throttle").inc()
                _log.warning("failures are counted by this pod alone")

    async def _count(self, key: str) -> int:
        since, here = self._local.get(key, (0.0, 0))
        if time.monotonic() - since >= WINDOW_SECONDS:
            here = 0
        try:
            return max(here, int(await self._redis.get(key) or 0))
        except OUTAGE:
            STORE_FAILURES.labels("redis", "throttle").inc()
            return here

    def _count_here(self, key: str) -> None:
        since, count = self._local.pop(key, (time.monotonic(), 0))
        if time.monotonic() - since >= WINDOW_SECONDS:
            since, count = time.monotonic(), 0
        self._local[key] = since, count + 1
        if len(self._local) > LOCAL_ENTRIES:
            self._local.popitem(last=False)


def _keys(client_id: str, ip: str) -> tuple[tuple[str, int], ...]:
    # Hashed, for both come from outside and may be long or strange.
    pair = hashlib.sha256(f"{client_id}\0{ip}".encode()).hexdigest()[:32]
    address = hashlib.sha256(ip.encode()).hexdigest()[:32]
    return (
        (f"authfail:pair:{pair}", MAX_FAILURES_PER_CLIENT_AND_IP),
        (f"authfail:ip:{address}", MAX_FAILURES_PER_IP),
    )
