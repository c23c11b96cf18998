"""Nonces are good once: remembered in Redis for as long as a signature with them could be accepted.

Redis is only the first line: a replay that slips through while it is away meets its actionId in the database and
counts nothing. So an update goes on without it; that is counted and logged.

The nonces of a batch travel together, over one connection to each primary of the cluster. The client library finds the
primaries, and takes over for a nonce whose command such a connection could not settle.
"""

import asyncio
import binascii
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from opentelemetry import trace
from redis.asyncio.cluster import RedisCluster

from podium.common.metrics import STORE_FAILURES
from podium.common.redis import OUTAGE
from podium.common.telemetry import tracer
from podium.scores.metrics import NONCES_UNCHECKED
from podium.scores.redis_link import RedisLink, Replies, ReplyError

NONCE_TTL_SECONDS: Final = 660
"""``created`` may be 300 s off either way, so a signature is acceptable for 600 s; a minute is to spare."""

NONCE_TIMEOUT_SECONDS: Final = 0.25
"""How long an update waits for Redis."""

WARM_UP_SECONDS: Final = 2.0
"""How long the start of the process waits for Redis, which it does not need."""

PAUSE_SECONDS: Final = 1.0
"""After a failure Redis is left alone for so long, so an outage does not cost every update the time-out."""

SLOTS: Final = 16_384
"""Hash slots of a Redis Cluster (Redis Cluster specification)."""

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

    def __init__(self, redis: RedisCluster, password: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._password = password
        self._clock = clock
        self._paused_until = 0.0
        self._links: dict[tuple[str, int], RedisLink] = {}
        self._by_slot: list[RedisLink | None] = [None] * SLOTS
        self._linking: asyncio.Task[None] | None = None
        self._link_not_before = 0.0

    async def warm_up(self) -> None:
        """Learn the cluster's nodes ahead of the first update; never raises for a cluster that is away."""
        self._begin_linking()
        if self._linking is not None:
            await asyncio.wait({self._linking}, timeout=WARM_UP_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        if self._linking is not None:
            self._linking.cancel()
            with suppress(asyncio.CancelledError):
                await self._linking
        for link in self._links.values():
            link.close()

    async def spend(self, key: bytes) -> bool:
        """Take the nonce with this key; False if it was spent before. True, too, while Redis is away."""
        with tracer.start_as_current_span(
            "SET nonce",
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "redis", "db.operation.name": "SET"},
        ) as span:
            unchecked = self._paused_until
            (fresh,) = await self.spend_all([key])
            if self._paused_until != unchecked:
                span.set_status(trace.Status(trace.StatusCode.ERROR))
            return fresh

    async def spend_all(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """``spend`` for many at once; one of two equal keys is the first."""
        if self._clock() < self._paused_until:
            NONCES_UNCHECKED.inc(len(keys))
            return [True] * len(keys)
        # A command is repeated when its connection broke: only the value tells its own first try from a replay.
        token = secrets.token_hex(_TOKEN_BYTES).encode()
        values = [b"%b%04d" % (token, index) for index in range(len(keys))]
        fresh: list[bool | None] = [None] * len(keys)
        try:
            await self._spend_all(keys, values, fresh)
        except OUTAGE as error:
            self._paused_until = self._clock() + PAUSE_SECONDS
            NONCES_UNCHECKED.inc(fresh.count(None))
            STORE_FAILURES.labels("redis", "nonce").inc()
            _log.warning("nonce store is away, updates go on unchecked", error=type(error).__name__)
            self._drop_links()
        # What a part of the cluster that is there has said holds, though another part is away.
        return [one is not False for one in fresh]

    async def _spend_all(self, keys: Sequence[bytes], values: Sequence[bytes], fresh: list[bool | None]) -> None:
        """Say in ``fresh`` which nonces were not spent before. Raises what the client raises for an outage."""
        unsettled: list[int] = []
        by_link: dict[RedisLink, list[int]] = {}
        for index, key in enumerate(keys):
            link = self._by_slot[binascii.crc_hqx(key, 0) % SLOTS]
            (unsettled if link is None else by_link.setdefault(link, [])).append(index)
        sent = [
            (indexes, link.send(b"".join([_set(keys[index], values[index]) for index in indexes]), len(indexes)))
            for link, indexes in by_link.items()
        ]
        try:
            for indexes, future in sent:
                try:
                    replies = await _patiently(future)
                except ConnectionError:
                    unsettled += indexes
                    continue
                for index, reply in zip(indexes, replies, strict=True):
                    if isinstance(reply, ReplyError):
                        unsettled.append(index)
                    else:
                        fresh[index] = reply is None or reply == values[index]
        finally:
            for _, future in sent:
                future.cancel()
        if unsettled:
            self._begin_linking()
            async with asyncio.timeout(NONCE_TIMEOUT_SECONDS):
                for index in sorted(unsettled):
                    before = await self._redis.set(keys[index], values[index], nx=True, get=True, ex=NONCE_TTL_SECONDS)
                    fresh[index] = before is None or before == values[index]

    def _drop_links(self) -> None:
        """Give up all connections: replies that are still on the way would be taken for those of later commands."""
        self._by_slot = [None] * SLOTS
        for link in self._links.values():
            link.close()
        self._links = {}

    def _begin_linking(self) -> None:
        """Connect anew to what are the primaries now, beside the updates that go on."""
        if self._clock() >= self._link_not_before and (self._linking is None or self._linking.done()):
            self._link_not_before = self._clock() + PAUSE_SECONDS
            self._linking = asyncio.create_task(self._link_all(), name="nonce-links")

    async def _link_all(self) -> None:
        try:
            await self._redis.initialize()
            await self._redis.nodes_manager.initialize()
            primaries = {slot: nodes[0] for slot, nodes in self._redis.nodes_manager.slots_cache.items()}
            links = {}
            for node in set(primaries.values()):
                address = (node.host, int(node.port))
                link = self._links.get(address)
                links[address] = link if link and link.usable else await RedisLink.open(*address, self._password)
        except (*OUTAGE, ReplyError) as error:
            _log.warning("nonce store is away", error=type(error).__name__)
            return
        for address, link in self._links.items():
            if links.get(address) is not link:
                link.close()
        self._links = links
        by_slot: list[RedisLink | None] = [None] * SLOTS
        for slot, node in primaries.items():
            by_slot[slot] = links[node.host, int(node.port)]
        self._by_slot = by_slot


async def _patiently(future: "asyncio.Future[Replies]") -> Replies:
    """``future`` in time; a reply that came while this process was busy with other things counts as in time."""
    try:
        async with asyncio.timeout(NONCE_TIMEOUT_SECONDS):
            return await asyncio.shield(future)
    except TimeoutError:
        for _ in range(2):  # rounds of the event loop, which looks at its timers before its sockets
            await asyncio.sleep(0)
        if future.done():
            return await future
        raise


def _set(key: bytes, value: bytes) -> bytes:
    return b"*7\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b" % (len(key), key, len(value), value) + _AFTER_VALUE
