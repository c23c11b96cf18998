"""Rankings in Redis Cluster: with ``shards``, ``audit_store`` and ``lease_store`` all that here talks to Redis.

The keys of one shard of a board share a hash tag, so each script touches one slot and is atomic. Every method
raises StoreUnavailable("redis") where the cluster, or the node of the slot, is away.
"""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

import msgspec
from redis.asyncio.cluster import RedisCluster

from podium.scoreboard.domain import Page, Ranking, Row, Snapshot, decode_snapshot, encode_rows
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.layout import Place, places
from podium.scoreboard.scripts import Gate, Script, outage_mapped
from podium.scoreboard.shards import (
    UPDATES_PER_CALL,
    Moved,
    NoRanking,
    NotProjected,
    Offer,
    Shards,
    Superseded,
    Written,
    counted,
    update_arguments,
)

__all__ = ["Applied", "BoardState", "NoRanking", "NotProjected", "RankingStore", "Superseded"]

LOAD_SECONDS: Final = 10.0
"""Bound of one bulk write: a node that saves or synchronises a replica may stand still for a while."""

LAYOUT_TRIES: Final = 3
"""How often a write follows a ranking that moves to another number of shards."""

READ_TRIES: Final = 2
"""How often a read follows a ranking that was swapped between the questions to its head and to its shards."""

_places = msgspec.json.Decoder(tuple[Ranking, ...])


@dataclass(frozen=True, slots=True)
class BoardState:
    """What Redis knows of a board's ranking; ``epoch`` is None before the first, ``building`` while one is built.

    ``season`` is that of the epoch, ``retiring`` the number of shards of a former layout that are still to be emptied,
    ``checked`` the Unix time of the last full comparison with PostgreSQL, which found ``drifted`` users to differ.
    """

    epoch: int | None = None
    version: int = 0
    published: int = 0
    building: int | None = None
    shards: int = 1
    building_shards: int = 1
    retiring: int = 0
    season: int = 1
    checked: int = 0
    drifted: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """Outcome of an apply: ``snapshot`` where the top changed, ``writes`` of this writer by (epoch, shard).

    ``epoch`` is None while the first one is built. ``ahead`` tells of an update of a newer season than any epoch's: it
    counts for nothing until a rebuild.
    """

    epoch: int | None
    version: int
    snapshot: bytes | None
    writes: dict[tuple[int, int], int] = field(default_factory=dict)
    ahead: bool = False


class RankingStore:
    """The rankings of all boards."""

    UPDATES_PER_CALL: Final = UPDATES_PER_CALL

    _apply = Script("apply")
    _load = Script("load")
    _begin = Script("begin")
    _swap = Script("swap")
    _resize = Script("resize")
    _offer = Script("offer")
    _published = Script("published", shared=False)
    _page = Script("page")
    _standing = Script("standing")

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis
        self._gate = Gate()
        self._shards = Shards(redis, self._gate)
        self._layouts: dict[str, int] = {}

    @staticmethod
    def _keys(board: str) -> list[str]:
        head = Place(board)
        return [head.meta, head.top]

    async def state(self, board: str) -> BoardState:
        """The state of the board's ranking."""
        fields = list(BoardState.__dataclass_fields__)
        async with outage_mapped("state"):
            found: list[bytes | None] = await cast(Awaitable[Any], self._redis.hmget(Place(board).meta, fields))
        known = {name: int(value) for name, value in zip(fields, found, strict=True) if value}
        return BoardState(**known)

    async def apply(self, board: str, top: int, writer: str, updates: Sequence[ScoreUpdate]) -> Applied:
        """Apply updates to the current epoch and to the one that is being built.

        Up to ``UPDATES_PER_CALL`` for each shard make one call. Raises NoRanking.
        """
        for _ in range(LAYOUT_TRIES):
            shards = self._layouts.get(board)
            if shards is None:
                shards = await self._layout(board)
            try:
                return await self._apply_to(board, shards, top, writer, updates)
            except (NoRanking, Moved):
                self._layouts.pop(board, None)
                if await self._layout(board) == shards:
                    break
        raise NoRanking(board)

    async def _layout(self, board: str) -> int:
        state = await self.state(board)
        if state.epoch is None and state.building is None:
            raise NoRanking(board)
        shards = state.shards if state.epoch is not None else state.building_shards
        self._layouts[board] = shards
        return shards

    async def _check_layout(self, board: str, shards: int) -> None:
        """Raise Moved where the board's head knows nothing of the layout that was written to.

        It may be one of a rebuild that was given up, or of a head that was lost: its shards still take writes.
        """
        state = await self.state(board)
        known = {state.shards if state.epoch else 0, state.building_shards if state.building else 0}
        if shards not in known:
            raise Moved(board)

    async def _apply_to(
        self, board: str, shards: int, top: int, writer: str, updates: Sequence[ScoreUpdate], only: int | None = None
    ) -> Applied:
        if shards == 1:
            applied, elsewhere = await self._apply_whole(board, top, writer, updates, only)
        else:
            written = Written()
            try:
                await self._shards.apply(board, shards, writer, updates, only, written)
            finally:
                shown = await self.offer(board, top, written.offers)
            if only is None:
                await self._check_layout(board, shards)
            applied, elsewhere = (
                Applied(shown.epoch, shown.version, shown.snapshot, written.writes, written.ahead),
                written.elsewhere,
            )
        for (epoch, new_shards), part in elsewhere.items():
            other = await self._apply_to(board, new_shards, top, writer, part, epoch)
            newest = max((applied, other), key=lambda one: (one.epoch or 0, one.version))
            applied = Applied(
                newest.epoch,
                newest.version,
                other.snapshot or applied.snapshot,
                applied.writes | other.writes,
                applied.ahead or other.ahead,
            )
        return applied

    async def _apply_whole(
        self, board: str, top: int, writer: str, updates: Sequence[ScoreUpdate], only: int | None
    ) -> tuple[Applied, dict[tuple[int, int], list[ScoreUpdate]]]:
        """Apply to a board of one shard; also answers what must go to other shards."""
        async with outage_mapped("apply"):
            answer = await self._apply(
                self._redis,
                self._keys(board),
                *(Place(board).prefix, board, top, writer, only or ""),
                *update_arguments(updates),
            )
        match answer:
            case [b"ok", epoch, version, snapshot, writes, building, building_shards, ahead]:
                other = {(int(building), int(building_shards)): list(updates)} if int(building) else {}
                shown = Applied(int(epoch) or None, int(version), snapshot or None, counted(writes, 0), bool(ahead))
                return shown, other
            case [b"superseded"]:
                return Applied(None, 0, None), {}
            case [b"moved"]:
                raise Moved(board)
            case _:
                raise NoRanking(board)

    async def offer(self, board: str, top: int, offers: Sequence[Offer]) -> Applied:
        """Give shards' first places to the head of their board; answers its state, with the snapshot that is new."""
        if not offers:
            return Applied(None, 0, None)
        shown = Applied(None, 0, None)
        async with outage_mapped("offer"):
            for one in offers:
                epoch, version, snapshot = await self._offer(
                    self._redis,
                    self._keys(board),
                    *(Place(board).prefix, board, top, one.epoch, one.shard, one.version, one.candidates),
                )
                shown = Applied(int(epoch) or None, int(version), snapshot or shown.snapshot)
        return shown

    async def begin(self, board: str, epoch: int, *, shards: int = 1, top: int = 10, season: int = 1) -> bool:
        """Begin to build ``epoch`` with ``shards`` for the scores of ``season``; false where a newer one is known.

        From now on updates of that season go to it, too.
        """
        async with outage_mapped("begin"):
            old = await self._begin(self._redis, self._keys(board)[:1], Place(board).prefix, epoch, shards, season)
        if old is None:
            return False
        for layout in {int(old), shards} - {0, 1}:
            await self._shards.begin(board, layout, epoch, shards, top, season)
        return True

    async def load(self, place: Place, writer: str, epoch: int, rows: Sequence[Row], newest: str) -> int:
        """Write rows of PostgreSQL to an epoch that is being built; answers the writer's number of writes to it.

        ``newest`` is the time of the newest row. Raises Superseded.
        """
        rows_bytes = encode_rows(rows)
        async with outage_mapped("load", LOAD_SECONDS):
            writes = await self._gate(
                partial(self._load, self._redis, [place.meta], place.prefix, writer, epoch, newest, rows_bytes)
            )
        if writes is None:
            raise Superseded(place.board)
        return int(writes)

    async def swap(self, board: str, top: int, epoch: int, writer: str, writes: Sequence[int], now: str) -> bytes:
        """Make ``epoch`` current and answer its snapshot. ``now`` dates the top of a board without a score.

        ``writes`` are those that the writer has made to each shard. Raises Superseded where the epoch is not being
        built any more, or fewer of them are in it.
        """
        shards = len(writes)
        if shards > 1:
            for place, expected in zip(places(board, shards), writes, strict=True):
                async with outage_mapped("swap"):
                    found = await cast(Awaitable[Any], self._redis.hget(f"{place.prefix}{epoch}:writers", writer))
                if int(found or 0) < expected:
                    raise Superseded(board)
            await self.offer(board, top, await self._shards.offers(board, shards, epoch, top))
        async with outage_mapped("swap"):
            snapshot = await self._swap(
                self._redis,
                self._keys(board),
                *(Place(board).prefix, board, top, epoch, writer, writes[0] if shards == 1 else 0, now),
                int(time.time()),
            )
        if not snapshot:
            raise Superseded(board)
        self._layouts[board] = shards
        return bytes(snapshot)

    async def settle(self, board: str, top: int, state: BoardState) -> tuple[Applied, bool]:
        """Finish what a projector left undone on shards: promote, empty old ones, offer what the head lacks.

        Answers the head's state, and whether every shard has the current epoch, and none an older copy of it.
        """
        if state.epoch is None:
            return Applied(None, 0, None), True
        if state.retiring and state.building is None:
            if state.retiring != state.shards:  # else a rebuild came back to it after another was abandoned
                await self._shards.settle(board, state.retiring, state.epoch, here=False)
            async with outage_mapped("settle"):
                await cast(Awaitable[Any], self._redis.hdel(Place(board).meta, "retiring"))
        if state.shards == 1:
            return Applied(None, 0, None), True
        async with outage_mapped("settle"):
            key = f"{Place(board).prefix}{state.epoch}:offers"
            offered = await cast(Awaitable[Any], self._redis.hgetall(key))
        known = {int(shard): int(version) for shard, version in offered.items()}
        # Asked after the head, so one that is behind it has lost what it had offered.
        versions = await self._shards.settle(board, state.shards, state.epoch)
        late, whole = [], True
        for place, version in zip(places(board, state.shards), versions, strict=True):
            if version is None or version < known.get(place.shard, 0):
                whole = False
            elif version > known.get(place.shard, 0):
                late.append(place)
        offers = await self._gate.together(partial(self._shards.offer_of, place, state.epoch) for place in late)
        return await self.offer(board, top, offers), whole

    async def resize(self, board: str, top: int) -> bytes | None:
        """Make the stored top ``top`` places long, and right; answers the snapshot where that changed it."""
        state = await self.state(board)
        snapshot = None
        if state.epoch is not None and state.shards > 1:
            offers = await self._shards.offers(board, state.shards, state.epoch, top)
            snapshot = (await self.offer(board, top, offers)).snapshot
        async with outage_mapped("resize"):
            new = await self._resize(self._redis, self._keys(board), Place(board).prefix, board, top)
        return bytes(new) if new else snapshot

    async def mark_published(self, board: str, epoch: int, version: int) -> None:
        """Note that watchers were told of ``version``."""
        async with outage_mapped("published"):
            await self._published(self._redis, self._keys(board)[:1], epoch, version)

    async def claim_purge(self, board: str, seconds: float) -> float:
        """Take the turn to purge a board from the CDN for so many seconds; answers 0, or how long another has it."""
        key = f"{Place(board).prefix}purge"
        async with outage_mapped("purge"):
            if await self._redis.set(key, b"", nx=True, px=max(1, round(seconds * 1000))):
                return 0.0
            left = await self._redis.pttl(key)
        return max(left, 1) / 1000

    async def top_bytes(self, board: str) -> bytes | None:
        """The newest snapshot as JSON, or None before the first."""
        async with outage_mapped("top"):
            return cast(bytes | None, await cast(Awaitable[Any], self._redis.get(Place(board).top)))

    async def top(self, board: str) -> Snapshot | None:
        """The newest snapshot, or None before the first."""
        data = await self.top_bytes(board)
        return decode_snapshot(data) if data else None

    async def page(self, board: str, limit: int) -> Page | None:
        """The first ``limit`` places, or None where there is no ranking, or not all of it."""
        for _ in range(READ_TRIES):
            async with outage_mapped("page"):
                answer = await self._gate(
                    partial(self._page, self._redis, self._keys(board)[:1], Place(board).prefix, limit)
                )
            if not answer:
                return None
            epoch, version, updated, shards, found = answer
            rankings: tuple[Ranking, ...] | None
            if int(shards) == 1:
                rankings = _places.decode(found)
            else:
                rankings = await self._shards.page(board, int(shards), int(epoch), limit)
            if rankings is not None:
                return Page(rankings, updated.decode(), board, int(epoch), int(version))
        return None

    async def standing(self, board: str, user_id: str, around: int) -> tuple[Page, int, int] | None:
        """The places around the user as a page, the user's rank and the number of players; None without a ranking.

        Raises NotProjected for a user who is unknown or hidden.
        """
        for _ in range(READ_TRIES):
            async with outage_mapped("standing"):
                answer = await self._gate(
                    partial(self._standing, self._redis, self._keys(board)[:1], Place(board).prefix, user_id, around)
                )
            if answer is None:
                return None
            epoch, version, updated, shards, *own = answer
            found: tuple[int, int, tuple[Ranking, ...]] | tuple[()] | None
            if int(shards) == 1:
                found = (int(own[0]), int(own[1]), _places.decode(own[2])) if own else ()
            else:
                found = await self._shards.standing(board, int(shards), int(epoch), user_id, around)
            if found == ():
                raise NotProjected(user_id, (int(epoch), int(version)))
            if found:
                rank, players, rankings = found
                return Page(rankings, updated.decode(), board, int(epoch), int(version)), rank, players
        return None

    async def places(self, board: str, limit: int) -> tuple[Ranking, ...]:
        """The first ``limit`` places, none where there is no ranking."""
        page = await self.page(board, limit)
        return page.rankings if page else ()
