"""The shards of a board that is spread over several slots: writing to them, and making one answer of theirs."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from redis.asyncio.cluster import RedisCluster

from podium.scoreboard.domain import Ranking
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.layout import Entry, Place, around_of, entries, first_of, places, ranked, shard_of, unsure
from podium.scoreboard.scripts import Gate, Script, outage_mapped

UPDATES_PER_CALL: Final = 256
"""Bound of one script's run, so that it stops the node for some milliseconds at most."""

SPARE_ENTRIES: Final = 8
"""Entries asked of each shard beyond its fair part of a page, so that a second question is rare."""

_Answer = TypeVar("_Answer")


class NoRanking(Exception):
    """The board has neither a ranking nor one that is being built (a new board, or Redis was wiped)."""


class Moved(Exception):
    """The ranking has another number of shards by now."""


class Superseded(Exception):
    """The epoch is not being built any more: another process took over, or Redis lost it."""


class NotProjected(Exception):
    """The user is unknown on the board, or hidden, as of the ranking's ``age``: (epoch, version)."""

    def __init__(self, user_id: str, age: tuple[int, int]) -> None:
        super().__init__(user_id)
        self.age = age


@dataclass(frozen=True, slots=True)
class Offer:
    """The first places of a shard, for the board's head: ``version`` grows with each change within an epoch."""

    epoch: int
    shard: int
    version: int
    candidates: bytes


@dataclass(slots=True)
class Written:
    """Outcome of a write: how many writes of the writer each (epoch, shard) counts, what the head must be offered,
    and what must be written again to an epoch that is being built with other shards (epoch, shards, updates)."""

    writes: dict[tuple[int, int], int] = field(default_factory=dict)
    offers: list[Offer] = field(default_factory=list)
    elsewhere: dict[tuple[int, int], list[ScoreUpdate]] = field(default_factory=dict)
    ahead: bool = False


def update_arguments(updates: Sequence[ScoreUpdate]) -> list[str | int]:
    """Updates as the scripts take them."""
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
    return args


def counted(writes: Sequence[bytes | int], shard: int) -> dict[tuple[int, int], int]:
    """A script's list of epoch and writes in turns."""
    return {(int(writes[at]), shard): int(writes[at + 1]) for at in range(0, len(writes), 2)}


class Shards:
    """All boards' shards. Methods raise StoreUnavailable("redis") where the node of a slot is away."""

    _apply = Script("shard_apply")
    _begin = Script("shard_begin")
    _candidates = Script("shard_candidates")
    _settle = Script("shard_settle")
    _page = Script("shard_page")
    _find = Script("shard_find")
    _around = Script("shard_around")

    def __init__(self, redis: RedisCluster, gate: Gate) -> None:
        self._redis = redis
        self._gate = gate

    async def apply(
        self,
        board: str,
        shards: int,
        writer: str,
        updates: Sequence[ScoreUpdate],
        only: int | None,
        written: Written,
    ) -> None:
        """Write updates to their shards, and note in ``written`` what was done, also where some shards are away.

        With ``only`` they go to that epoch alone, and nowhere where it is superseded. Raises NoRanking where a shard
        has no ranking to write to.
        """
        groups: dict[int, list[ScoreUpdate]] = {}
        for one in updates:
            groups.setdefault(shard_of(one.user_id, shards), []).append(one)

        async def one_shard(shard: int, part: Sequence[ScoreUpdate]) -> None:
            for start in range(0, len(part), UPDATES_PER_CALL):
                await self._apply_part(Place(board, shard, shards), writer, part[start : start + UPDATES_PER_CALL],
                                       only, written)  # fmt: skip

        async with outage_mapped("apply"):
            await self._gate.together(partial(one_shard, shard, part) for shard, part in groups.items())

    async def _apply_part(
        self, place: Place, writer: str, updates: Sequence[ScoreUpdate], only: int | None, written: Written
    ) -> None:
        answer = await self._apply(
            self._redis, [place.meta], place.prefix, place.shards, writer, only or "", *update_arguments(updates)
        )
        match answer:
            case [b"ok", writes, building, building_shards, changed, ahead]:
                written.ahead |= bool(ahead)
                written.writes |= counted(writes, place.shard)
                written.offers += [_offer(place, one) for one in changed]
                if int(building):
                    written.elsewhere.setdefault((int(building), int(building_shards)), []).extend(updates)
            case [b"superseded"]:
                return
            case _:
                raise NoRanking(place.board)

    async def begin(self, board: str, shards: int, epoch: int, new_shards: int, size: int, season: int) -> None:
        """Tell all shards that ``epoch`` is being built with ``new_shards``. Raises Superseded."""
        async with outage_mapped("begin"):
            done = await self._everywhere(
                board,
                shards,
                lambda at: self._begin(self._redis, [at.meta], at.prefix, epoch, new_shards, size, season),
            )
        if not all(done):
            raise Superseded(board)

    async def offers(self, board: str, shards: int, epoch: int, size: int = 0) -> list[Offer]:
        """The first places of every shard, ``size`` of them from now on. Raises Superseded where a shard lacks them."""
        return [await self.offer_of(place, epoch, size) for place in places(board, shards)]

    async def offer_of(self, place: Place, epoch: int, size: int = 0) -> Offer:
        """The first places of one shard. Raises Superseded where it lacks the epoch."""
        async with outage_mapped("candidates"):
            found = await self._candidates(self._redis, [place.meta], place.prefix, epoch, size)
        if not found:
            raise Superseded(place.board)
        return _offer(place, found)

    async def settle(self, board: str, shards: int, epoch: int, *, here: bool = True) -> list[int | None]:
        """Bring all shards to the board's current epoch and answer the version of each one's first places.

        None for a shard that lacks the epoch. Shards of another layout (not ``here``) are emptied.
        """
        async with outage_mapped("settle"):
            return await self._everywhere(
                board, shards, lambda at: self._settle(self._redis, [at.meta], at.prefix, epoch, int(here))
            )

    async def page(self, board: str, shards: int, epoch: int, limit: int) -> tuple[Ranking, ...] | None:
        """The first ``limit`` places of the board; None where a shard lacks the epoch.

        Each shard gives its fair part and a little more; whoever may have more of the page is asked again.
        """
        everywhere = places(board, shards)
        parts: list[list[Entry]] = [[] for _ in everywhere]
        asked, wanted = min(limit, -(-limit // shards) + SPARE_ENTRIES), list(range(shards))
        while wanted:
            async with outage_mapped("page"):
                found = await self._gate.together(
                    partial(self._part, everywhere[index], epoch, asked) for index in wanted
                )
            for index, part in zip(wanted, found, strict=True):
                if part is None:
                    return None
                parts[index] = part
            wanted = unsure(parts, asked, limit) if asked < limit else []
            asked = min(limit, asked * 4)
        return ranked(first_of(parts, limit), 1)

    async def _part(self, place: Place, epoch: int, limit: int) -> list[Entry] | None:
        found = await self._page(self._redis, [place.meta], place.prefix, epoch, 0, limit - 1)
        return None if found is None else entries(found)

    async def standing(
        self, board: str, shards: int, epoch: int, user_id: str, around: int
    ) -> tuple[int, int, tuple[Ranking, ...]] | tuple[()] | None:
        """Rank, players and the places around a user.

        () where the user is unknown or hidden, None where a shard lacks the epoch.
        """
        home = Place(board, shard_of(user_id, shards), shards)
        async with outage_mapped("standing"):
            own = await self._find(self._redis, [home.meta], home.prefix, epoch, user_id)
            if own is None:
                return None
            if not own:
                return ()
            member, score, username = own
            found = await self._everywhere(
                board, shards,
                lambda at: self._around(self._redis, [at.meta], at.prefix, epoch, member, score, around),
            )  # fmt: skip
        if any(part is None for part in found):
            return None
        rank = 1 + sum(before for before, _, _ in found)
        near = around_of((entries(part) for _, _, part in found), Entry(int(score), member, username), around)
        first = rank - next(index for index, one in enumerate(near) if one.member == member)
        return rank, sum(players for _, players, _ in found), ranked(near, first)

    async def _everywhere(self, board: str, shards: int, call: Callable[[Place], Awaitable[_Answer]]) -> list[_Answer]:
        return await self._gate.together(partial(call, place) for place in places(board, shards))


def _offer(place: Place, found: Sequence[Any]) -> Offer:
    epoch, version, candidates = found
    return Offer(int(epoch), place.shard, int(version), candidates)
