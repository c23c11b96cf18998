"""Nonces are good once: remembered in Redis for as long as a signature with them could be accepted.

Redis is only the first line: a replay that slips through while it is away meets its actionId in the database and
counts nothing. So an update goes on without it; that is counted and logged. Only the first updates of an outage wait
for Redis: afterwards one task in the background looks whether it is back (a circuit breaker, half-open beside the
updates instead of with them: M. Nygard, Release It!, "Circuit Breaker").

The nonces of a batch travel together, over one connection to each primary of the cluster. The client library takes over
for a nonce whose command such a connection could not settle.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Collection, Sequence
from typing import Final

import structlog
from opentelemetry import trace
from redis.asyncio.cluster import RedisCluster

from podium.common.metrics import STORE_FAILURES
from podium.common.redis import OUTAGE
from podium.common.redis_link import RedisLink, Replies, ReplyError
from podium.common.redis_links import RedisLinks
from podium.common.telemetry import tracer
from podium.scores.metrics import NONCES_UNCHECKED

NONCE_TTL_SECONDS: Final = 660
"""``created`` may be 300 s off either way, so a signature is acceptable for 600 s; a minute is to spare."""

NONCE_TIMEOUT_SECONDS: Final = 0.25
"""How long an update waits for Redis."""

WARM_UP_SECONDS: Final = 2.0
"""How long the start of the process waits for Redis, which it does not need."""

_DIGEST_BYTES: Final = 16
"""Enough that no two nonces of a key will ever meet."""

_TOKEN_BYTES: Final = 4
_AFTER_VALUE: Final = b"\r\n$2\r\nNX\r\n$3\r\nGET\r\n$2\r\nEX\r\n$3\r\n%d\r\n" % NONCE_TTL_SECONDS

_log = structlog.get_logger("podium.scores.nonces")


def nonce_key(keyid: bytes, nonce: bytes) -> bytes:
    """The key under which ``nonce`` of the signing key ``keyid`` is remembered; no hash tag, so they spread evenly."""
    digest = hashlib.blake2b(b"%b\n%b" % (keyid, nonce), digest_size=_DIGEST_BYTES).hexdigest()
    return b"nonce:" + digest.encode()


class NonceStore:
    """Remembers nonces. Needs Redis 7 or newer (``SET … NX GET``)."""

    def __init__(self, redis: RedisCluster, password: str | None) -> None:
        self._redis = redis
        self._links = RedisLinks(redis, password, failed=self._gone, found=self._back)
        self._away = False

    async def warm_up(self) -> None:
        """Connect ahead of the first update; never raises for a cluster that is away."""
        await asyncio.wait({self._links.look()}, timeout=WARM_UP_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        await self._links.close()

    async def spend(self, key: bytes) -> bool:
        """Take the nonce with this key; False if it was spent before. True, too, while Redis is away."""
        with tracer.start_as_current_span(
            "SET nonce",
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "redis", "db.operation.name": "SET"},
        ) as span:
            (fresh,) = await self._spend_all([key])
            if fresh is None:
                span.set_status(trace.Status(trace.StatusCode.ERROR))
            return fresh is not False

    async def spend_all(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """``spend`` for many at once; one of two equal keys is the first."""
        return [fresh is not False for fresh in await self._spend_all(keys)]

    async def _spend_all(self, keys: Sequence[bytes]) -> Sequence[bool | None]:
        """Which nonces were not spent before; None where Redis did not say."""
        # A command is repeated when its connection broke: only the value tells its own first try from a replay.
        token = secrets.token_hex(_TOKEN_BYTES).encode()
        values = [b"%b%04d" % (token, index) for index in range(len(keys))]
        fresh: list[bool | None] = [None] * len(keys)
        unsettled = await self._ask_links(keys, values, fresh)
        if unsettled and not self._away:
            try:
                await self._ask_library(unsettled, keys, values, fresh)
            except OUTAGE as error:
                self._gone(error)
        if unchecked := fresh.count(None):
            NONCES_UNCHECKED.inc(unchecked)
        return fresh

    async def _ask_links(
        self, keys: Sequence[bytes], values: Sequence[bytes], fresh: list[bool | None]
    ) -> Sequence[int]:
        """Say in ``fresh`` what the connections settle; the rest, by index, is for the library."""
        unsettled: list[int] = []
        by_link: dict[RedisLink, list[int]] = {}
        for index, key in enumerate(keys):
            link = self._links.of(key)
            (unsettled if link is None else by_link.setdefault(link, [])).append(index)
        sent = {
            link: link.send(b"".join([_set(keys[index], values[index]) for index in indexes]), len(indexes))
            for link, indexes in by_link.items()
        }
        await _patiently(sent.values())
        for link, future in sent.items():
            if not future.done():
                # Replies that are still on the way would be taken for those of later commands.
                link.close()
                self._gone(TimeoutError())
            elif future.exception() is not None:
                unsettled += by_link[link]
            else:
                for index, reply in zip(by_link[link], future.result(), strict=True):
                    if isinstance(reply, ReplyError):
                        unsettled.append(index)
                    else:
                        fresh[index] = reply is None or reply == values[index]
        return unsettled

    async def _ask_library(
        self, indexes: Sequence[int], keys: Sequence[bytes], values: Sequence[bytes], fresh: list[bool | None]
    ) -> None:
        """Say in ``fresh`` which of these were not spent before. Raises what the client raises for an outage."""
        self._links.look()
        async with asyncio.timeout(NONCE_TIMEOUT_SECONDS):
            for index in sorted(indexes):
                before = await self._redis.set(keys[index], values[index], nx=True, get=True, ex=NONCE_TTL_SECONDS)
                fresh[index] = before is None or before == values[index]

    def _gone(self, error: Exception) -> None:
        """From now on updates go on without what only Redis could say, until it is seen to be back."""
        STORE_FAILURES.labels("redis", "nonce").inc()
        if not self._away:
            _log.warning("nonce store is away, updates go on unchecked", error=type(error).__name__)
            self._away = True
        self._links.look()

    def _back(self) -> None:
        if self._away:
            _log.info("nonce store is back")
            self._away = False


async def _patiently(futures: "Collection[asyncio.Future[Replies]]") -> None:
    """Wait for all, in time; a reply that came while this process was busy with other things counts as in time."""
    if not futures:
        return
    _, late = await asyncio.wait(futures, timeout=NONCE_TIMEOUT_SECONDS)
    if late:
        for _ in range(2):  # rounds of the event loop, which looks at its timers before its sockets
            await asyncio.sleep(0)


def _set(key: bytes, value: bytes) -> bytes:
    return b"*7\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b" % (len(key), key, len(value), value) + _AFTER_VALUE
