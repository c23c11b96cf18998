"""Lua scripts on Redis Cluster, and the one way in which an outage of it is told from a fault of a command."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final, TypeVar, cast

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import DataError, NoScriptError, ResponseError

from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.redis import OUTAGE

CALL_SECONDS: Final = 2.0
"""Bound of one call with all its retries: whoever asks is better served by a quick 503 than by a long wait."""

CALLS_AT_ONCE: Final = 24
"""Calls that one store makes at a time; more wait. The client refuses more than 32 connections to a node."""

_Answer = TypeVar("_Answer")

_SERVER_AT_FAULT = re.compile(
    r"(OOM|MISCONF|NOREPLICAS|BUSY|CLUSTERDOWN|LOADING|READONLY|MASTERDOWN|TRYAGAIN|MOVED|ASK)\b"
)
"""Error replies that say the server, not the command, is at fault (Redis documentation, error prefixes)."""


def fails_by_itself(error: BaseException) -> bool:
    """Whether a command is wrong by itself, so that repeating it can never help."""
    if isinstance(error, DataError):
        return True
    return type(error) is ResponseError and not _SERVER_AT_FAULT.match(str(error))


@asynccontextmanager
async def outage_mapped(operation: str, seconds: float | None = CALL_SECONDS) -> AsyncIterator[None]:
    """Turn an outage inside the block into StoreUnavailable("redis"), counted under ``operation``.

    A block that takes longer than ``seconds`` is one, too.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except OUTAGE as error:
        if fails_by_itself(error):
            raise
        STORE_FAILURES.labels("redis", operation).inc()
        raise StoreUnavailable("redis") from error


class Gate:
    """Lets so many calls through at a time."""

    def __init__(self, calls: int = CALLS_AT_ONCE) -> None:
        self._free = asyncio.Semaphore(calls)

    async def __call__(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Make one call."""
        async with self._free:
            return await call()

    async def together(self, calls: Iterable[Callable[[], Awaitable[_Answer]]]) -> list[_Answer]:
        """Make calls side by side; answers in their order. The first that failed is raised, when all have ended."""
        answers = await asyncio.gather(*(self(call) for call in calls), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return cast(list[_Answer], answers)


class Script:
    """A Lua script, sent by its digest; its text follows where a node does not know it (a new or restarted one)."""

    def __init__(self, name: str, *, shared: bool = True) -> None:
        folder = files("podium.scoreboard") / "lua"
        text = (folder / f"{name}.lua").read_text()
        self._text = (folder / "common.lua").read_text() + text if shared else text
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    @property
    def digest(self) -> bytes:
        """By what EVALSHA names it."""
        return self._digest.encode()

    async def __call__(self, redis: RedisCluster, keys: Sequence[str], *args: str | int | bytes) -> Any:
        """Run it where ``keys`` live."""
        values = cast(list[str], [*keys, *args])
        try:
            return await redis.evalsha(self._digest, len(keys), *values)
        except NoScriptError:
            return await redis.eval(self._text, len(keys), *values)
