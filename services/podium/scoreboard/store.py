"""Rankings and connection leases in Redis Cluster: the only module here that talks to Redis.

A board's keys share the hash tag ``{board:<board>}``, so each script touches one slot and is atomic. Every method
raises StoreUnavailable("redis") where the cluster, or the node of the slot, is away.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, cast

import msgspec
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import DataError, NoScriptError, ResponseError

from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.redis import OUTAGE
from podium.scoreboard.domain import Page, Ranking, Snapshot, decode_snapshot
from podium.scoreboard.events import ScoreUpdate

_SERVER_AT_FAULT = re.compile(
    r"(OOM|MISCONF|NOREPLICAS|BUSY|CLUSTERDOWN|LOADING|READONLY|MASTERDOWN|TRYAGAIN|MOVED|ASK)\b"
)
"""Error replies that say the server, not the command, is at fault (Redis documentation, error prefixes)."""

_places = msgspec.json.Decoder(tuple[Ranking, ...])


def fails_by_itself(error: BaseException) -> bool:
    """Whether a command is wrong by itself, so that repeating it can never help."""
    if isinstance(error, DataError):
        return True
    return type(error) is ResponseError and not _SERVER_AT_FAULT.match(str(error))


class Script:
    """A Lua script, sent by its digest; its text follows where a node does not know it (a new or restarted one)."""

    def __init__(self, name: str, *, shared: bool = True) -> None:
        folder = files("podium.scoreboard") / "lua"
        text = (folder / f"{name}.lua").read_text()
        self._text = (folder / "common.lua").read_text() + text if shared else text
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: RedisCluster, keys: Sequence[str], *args: str | int | bytes) -> Any:
        """Run it where ``keys`` live."""
        values = cast(list[str], [*keys, *args])
        try:
            return await redis.evalsha(self._digest, len(keys), *values)
        except NoScriptError:
            return await redis.eval(self._text, len(keys), *values)


CALL_SECONDS: Final = 2.0
"""Bound of one call with all its retries: whoever asks is better served by a quick 503 than by a long wait."""


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


@dataclass(frozen=True, slots=True)
class BoardState:
    """What Redis knows of a board's ranking; ``epoch`` is None before the first, ``building`` unless one is built.

    ``season`` is that of the epoch.
    """

    epoch: int | None
    version: int
    published: int
    building: int | None
    season: int


@dataclass(frozen=True, slots=True)
class Applied:
    """Outcome of an apply: ``snapshot`` where the top changed, ``writes`` of this writer by epoch.

    ``ahead`` tells of an update of a newer season than any epoch here: it counts for nothing until a rebuild.
    """

    epoch: int
    version: int
    snapshot: bytes | None
    writes: dict[int, int]
    ahead: bool = False


class NoRanking(Exception):
    """The board has neither a ranking nor one that is being built (a new board, or Redis was wiped)."""


class Superseded(Exception):
    """The epoch is not being built any more: another process took over, or Redis lost it."""


class NotProjected(Exception):
    """The user is unknown on the board, or hidden."""


class RankingStore:
    """The rankings of all boards."""

    UPDATES_PER_CALL: Final = 256
    """Bound of one script's run, so that it stops the node for some milliseconds at most."""

    _apply = Script("apply")
    _begin = Script("begin")
    _swap = Script("swap")
    _resize = Script("resize")
    _published = Script("published")
    _page = Script("page")
    _standing = Script("standing")

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis

    @staticmethod
    def _prefix(board: str) -> str:
        return f"{{board:{board}}}:"

    def _keys(self, board: str) -> tuple[str, str]:
        prefix = self._prefix(board)
        return f"{prefix}meta", f"{prefix}top"

    async def state(self, board: str) -> BoardState:
        """The state of the board's ranking."""
        async with outage_mapped("state"):
            found: list[bytes | None] = await cast(
                Awaitable[Any],
                self._redis.hmget(self._keys(board)[0], ["epoch", "version", "published", "building", "season"]),
            )
        epoch, version, published, building, season = (int(value) if value else None for value in found)
        return BoardState(epoch, version or 0, published or 0, building, season or 1)

    async def apply(
        self, board: str, top: int, writer: str, updates: Sequence[ScoreUpdate], *, building: int | None = None
    ) -> Applied:
        """Apply up to ``UPDATES_PER_CALL`` updates: to all epochs, or only to the one that is ``building``.

        Raises NoRanking, or Superseded for a ``building`` that is no longer built.
        """
        args: list[str | int] = []
        for one in updates:
            args += (
                one.user_id,
                one.version,
                one.score,
                f"{one.reached_micros:016d}",
                int(one.hidden),
                one.username,
                one.updated_at,
                one.traceparent or "",
            )
        async with outage_mapped("apply"):
            answer = await self._apply(
                self._redis,
                self._keys(board),
                *(self._prefix(board), board, top, writer, "" if building is None else building),
                *args,
            )
        match answer:
            case [b"ok", epoch, version, snapshot, writes, ahead]:
                counts = {int(writes[at]): int(writes[at + 1]) for at in range(0, len(writes), 2)}
                return Applied(int(epoch), int(version), snapshot or None, counts, bool(ahead))
            case [b"superseded"]:
                raise Superseded(board)
            case _:
                raise NoRanking(board)

    async def begin(self, board: str, epoch: int, season: int = 1) -> bool:
        """Begin to build ``epoch``, which holds scores of ``season`` only; false where a newer one is known."""
        async with outage_mapped("begin"):
            return bool(await self._begin(self._redis, self._keys(board), self._prefix(board), epoch, season))

    async def swap(self, board: str, top: int, epoch: int, writer: str, writes: int, now: str) -> bytes:
        """Make ``epoch`` current and answer its snapshot. ``now`` dates the top of a board without a score.

        Raises Superseded where it is not being built any more, or fewer than ``writes`` of this writer are in it.
        """
        async with outage_mapped("swap"):
            snapshot = await self._swap(
                self._redis, self._keys(board), self._prefix(board), board, top, epoch, writer, writes, now
            )
        if not snapshot:
            raise Superseded(board)
        return bytes(snapshot)

    async def resize(self, board: str, top: int) -> None:
        """Make the stored top ``top`` places long, as a new version where that changes it."""
        async with outage_mapped("resize"):
            await self._resize(self._redis, self._keys(board), self._prefix(board), board, top)

    async def mark_published(self, board: str, epoch: int, version: int) -> None:
        """Note that watchers were told of ``version``."""
        async with outage_mapped("published"):
            await self._published(self._redis, self._keys(board)[:1], epoch, version)

    async def top_bytes(self, board: str) -> bytes | None:
        """The newest snapshot as JSON, or None before the first."""
        async with outage_mapped("top"):
            return cast(bytes | None, await cast(Awaitable[Any], self._redis.get(self._keys(board)[1])))

    async def top(self, board: str) -> Snapshot | None:
        """The newest snapshot, or None before the first."""
        data = await self.top_bytes(board)
        return decode_snapshot(data) if data else None

    async def page(self, board: str, limit: int) -> Page | None:
        """The first ``limit`` places, or None where there is no ranking."""
        async with outage_mapped("page"):
            answer = await self._page(self._redis, self._keys(board)[:1], self._prefix(board), limit)
        if not answer:
            return None
        epoch, version, updated, places = answer
        return Page(_places.decode(places), updated.decode(), board, int(epoch), int(version))

    async def standing(self, board: str, user_id: str, around: int) -> tuple[Page, int, int] | None:
        """The places around the user as a page, the user's rank and the number of players; None without a ranking.

        Raises NotProjected for a user who is unknown or hidden.
        """
        async with outage_mapped("standing"):
            answer = await self._standing(self._redis, self._keys(board)[:1], self._prefix(board), user_id, around)
        if answer is None:
            return None
        if not answer:
            raise NotProjected(user_id)
        epoch, version, updated, rank, players, places = answer
        return Page(_places.decode(places), updated.decode(), board, int(epoch), int(version)), int(rank), int(players)

    async def places(self, board: str, limit: int) -> tuple[Ranking, ...]:
        """The first ``limit`` places, none where there is no ranking."""
        page = await self.page(board, limit)
        return page.rankings if page else ()


class LeaseStore:
    """Leases on connections, counted across pods, in one sorted set for each user and address."""

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
