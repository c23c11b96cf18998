"""Nonces are good once: remembered in Redis for as long as a signature with them could be accepted.

Redis is only the first line: a replay that slips through while it is away meets its actionId in the database and
counts nothing. So an update goes on without it; that is counted and logged.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable

import structlog
from opentelemetry import trace
from redis.asyncio.cluster import RedisCluster

from podium.common.metrics import STORE_FAILURES
from podium.common.redis import OUTAGE
from podium.common.telemetry import tracer
from podium.scores.metrics import NONCES_UNCHECKED

NONCE_TTL_SECONDS = 660
"""``created`` may be 300 s off either way, so a signature is acceptable for 600 s; a minute is to spare."""

NONCE_TIMEOUT_SECONDS = 0.25
"""How long an update waits for Redis."""

WARM_UP_SECONDS = 2.0
"""How long the start of the process waits for Redis, which it does not need."""

PAUSE_SECONDS = 1.0
"""After a failure Redis is left alone for so long, so an outage does not cost every update the time-out."""

_log = structlog.get_logger("podium.scores.nonces")


class NonceStore:
    """Remembers nonces by key. Needs Redis 7 or newer (``SET … NX GET``)."""

    def __init__(self, redis: RedisCluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._paused_until = 0.0

    async def warm_up(self) -> None:
        """Learn the cluster's nodes ahead of the first update; never raises for a cluster that is away."""
        try:
            async with asyncio.timeout(WARM_UP_SECONDS):
                await self._redis.initialize()
        except OUTAGE as error:
            _log.warning("nonce store is away", error=type(error).__name__)

    async def spend(self, keyid: str, nonce: str) -> bool:
        """Take the nonce; False if it was spent before. True, too, while Redis is away."""
        if self._clock() < self._paused_until:
            NONCES_UNCHECKED.inc()
            return True
        key = f"nonce:{keyid}:{hashlib.sha256(nonce.encode()).hexdigest()}"
        # The client repeats a command whose connection broke: only the value tells its own first try from a replay.
        token = secrets.token_bytes(8)
        with tracer.start_as_current_span(
            "SET nonce",
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "redis", "db.operation.name": "SET"},
            record_exception=False,
        ) as span:
            try:
                async with asyncio.timeout(NONCE_TIMEOUT_SECONDS):
                    before = await self._redis.set(key, token, nx=True, get=True, ex=NONCE_TTL_SECONDS)
                    return before is None or before == token
            except OUTAGE as error:
                span.set_status(trace.Status(trace.StatusCode.ERROR))
                self._paused_until = self._clock() + PAUSE_SECONDS
                NONCES_UNCHECKED.inc()
                STORE_FAILURES.labels("redis", "nonce").inc()
                _log.warning("nonce store is away, updates go on unchecked", error=type(error).__name__)
                return True
