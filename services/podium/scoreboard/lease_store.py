"""Leases on connections in Redis Cluster, counted across pods, in one sorted set for each user and address.

A storm of reconnecting clients asks for thousands of leases in a second: what is asked for in one round of the event
loop travels together, over one connection to each primary. The client library takes over what that does not settle.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast

import structlog
from redis.asyncio.cluster import RedisCluster

from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.redis_link import RedisLink, Replies, ReplyError, command
from podium.common.redis_links import RedisLinks
from podium.scoreboard.scripts import Gate, Script, outage_mapped

ANSWER_SECONDS: Final = 1.0
"""How long a handshake waits for Redis."""

_log = structlog.get_logger("podium.scoreboard.leases")

Answer: TypeAlias = Callable[[bool | None], None]
"""Is told whether a lease was granted, or renewed; None where Redis did not say."""


class _Ask:
    """One command: as bytes for a link, and as a call for the library. ``answer`` None: nobody wants to know."""

    __slots__ = ("answer", "by_library", "command", "key")

    def __init__(
        self, key: bytes, text: bytes, by_library: Callable[[], Awaitable[Any]], answer: Answer | None = None
    ) -> None:
        self.key = key
        self.command = text
        self.by_library = by_library
        self.answer = answer


class LeaseStore:
    """Takes, renews and gives back leases."""

    SECONDS: Final = 30
    """How long a lease lasts; pods renew theirs well before."""

    _lease = Script("lease", shared=False)
    _renew = Script("renew", shared=False)

    def __init__(self, redis: RedisCluster, password: str | None = None) -> None:
        self._redis = redis
        self._links = RedisLinks(redis, password, failed=lambda _: None)
        self._gate = Gate()
        self._asked: list[_Ask] = []
        self._under_way: set[asyncio.Future[Any]] = set()

    async def linked(self) -> None:
        """Connect ahead of the first lease, however long it takes."""
        await self._links.look()

    def acquire(self, key: str, connection: str, limit: int, answer: Answer) -> None:
        """Take a lease under ``key`` unless ``limit`` are held; ``answer`` is called later."""
        arguments = (connection, str(limit), str(self.SECONDS))
        text = command(b"EVALSHA", self._lease.digest, b"1", key.encode(), *map(str.encode, arguments))
        self._ask(_Ask(key.encode(), text, partial(self._lease, self._redis, [key], *arguments), answer))

    def release(self, key: str, connection: str) -> None:
        """Give a lease back, if Redis can be reached; else it runs out."""
        text = command(b"ZREM", key.encode(), connection.encode())
        by_library = cast(Callable[[], Awaitable[Any]], partial(self._redis.zrem, key, connection))
        self._ask(_Ask(key.encode(), text, by_library))

    def renew(self, key: str, connections: Sequence[str], answer: Answer) -> None:
        """Renew some leases under ``key``, lost ones included; ``answer`` is called later."""
        arguments = (str(self.SECONDS), *connections)
        text = command(b"EVALSHA", self._renew.digest, b"1", key.encode(), *map(str.encode, arguments))
        self._ask(_Ask(key.encode(), text, partial(self._renew, self._redis, [key], *arguments), answer))

    async def close(self) -> None:
        """Wait for what is under way, a moment at most, and close the connections."""
        if self._asked:
            self._send()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=ANSWER_SECONDS)
        await self._links.close()

    def _ask(self, ask: _Ask) -> None:
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._send)
        self._asked.append(ask)

    def _send(self) -> None:
        """Send what was asked in this round of the event loop."""
        asked, self._asked = self._asked, []
        by_link: dict[RedisLink | None, list[_Ask]] = {}
        for ask in asked:
            by_link.setdefault(self._links.of(ask.key), []).append(ask)
        for link, asks in by_link.items():
            if link is None:
                self._by_library(asks)
                continue
            future = link.send(b"".join([ask.command for ask in asks]), len(asks))
            # Late replies would be taken for those of later commands.
            late = asyncio.get_running_loop().call_later(ANSWER_SECONDS, link.close)
            self._under_way.add(future)
            future.add_done_callback(partial(self._replied, asks, late))

    def _replied(self, asks: Sequence[_Ask], late: asyncio.TimerHandle, future: "asyncio.Future[Replies]") -> None:
        was_late = late.when() <= asyncio.get_running_loop().time()
        late.cancel()
        self._under_way.discard(future)
        if future.exception() is None:
            unsettled = []
            for ask, reply in zip(asks, future.result(), strict=True):
                if isinstance(reply, ReplyError):
                    unsettled.append(ask)
                elif ask.answer is not None:
                    ask.answer(bool(reply))
        elif was_late:
            self._links.look()
            self._failed(asks)
            return
        else:
            unsettled = list(asks)
        if unsettled:
            self._by_library(unsettled)

    def _by_library(self, asks: Sequence[_Ask]) -> None:
        self._links.look()
        task = asyncio.get_running_loop().create_task(self._ask_library(asks))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask_library(self, asks: Sequence[_Ask]) -> None:
        async def one(ask: _Ask) -> None:
            granted: bool | None = None
            try:
                async with outage_mapped("lease", ANSWER_SECONDS):
                    granted = bool(await ask.by_library())
            except StoreUnavailable:
                pass  # counted
            except Exception:  # whatever it is: somebody waits for an answer
                _log.exception("a lease could not be taken or given back")
            if ask.answer is not None:
                ask.answer(granted)

        await self._gate.together([partial(one, ask) for ask in asks])

    def _failed(self, asks: Sequence[_Ask]) -> None:
        STORE_FAILURES.labels("redis", "lease").inc()
        for ask in asks:
            if ask.answer is not None:
                ask.answer(None)
