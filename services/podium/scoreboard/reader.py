"""Answers to reads: the top from memory, the rest from Redis or, while that is away, the last good answer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from podium.common.problems import FieldError, Problem, StoreUnavailable, unavailable
from podium.common.rules import Tier, tier_of
from podium.common.security_state import SecurityState
from podium.scoreboard import metrics
from podium.scoreboard.breaker import CircuitBreaker
from podium.scoreboard.domain import Page, Snapshot, Standing, Tops, continued, percentile, without
from podium.scoreboard.last_good import Kept, LastGood
from podium.scoreboard.models import MAX_AROUND
from podium.scoreboard.representations import document, entity_tag, page_of
from podium.scoreboard.store import NotProjected, RankingStore

LAST_PAGES: Final = 16
"""Pages beyond a top that a process keeps to answer with while Redis cannot; at most some megabytes."""

LAST_STANDINGS: Final = 2048
"""Users' places that a process keeps for the same; a kilobyte each, eight with the most neighbours."""

SWAP_SECONDS: Final = 5.0
"""How long an answer of the former epoch stands in for one of the present."""


@dataclass(frozen=True, slots=True)
class Held:
    """A representation that is kept: of which snapshot and after which restrictions, its bytes, its validator."""

    age: tuple[int, int]
    restrictions: int
    body: bytes
    tag: str


class Reader:
    """Answers reads. ``board_tops`` gives the size of each board's top."""

    def __init__(
        self,
        board_tops: Mapping[str, int],
        tiers: Sequence[Tier],
        tops: Tops,
        store: RankingStore,
        security: SecurityState,
    ) -> None:
        self._board_tops = board_tops
        self._tiers = tiers
        self._tops = tops
        self._store = store
        self._security = security
        self._redis: defaultdict[str, CircuitBreaker] = defaultdict(CircuitBreaker)
        """By board: each has a node of its own."""
        self._cached: dict[tuple[str, int], Held] = {}
        self._pages: LastGood[tuple[str, int], Page] = LastGood(LAST_PAGES)
        self._standings: LastGood[tuple[str, str, int], Standing] = LastGood(LAST_STANDINGS)

    def known(self, board: str) -> str:
        """``board``, if it exists. Raises Problem 400."""
        if board not in self._board_tops:
            error = FieldError(pointer="/board", detail="is not a board of this Scoreboard")
            raise Problem("malformed-request", 400, f"there is no board {board!r}", errors=[error])
        return board

    def in_memory(self, board: str, limit: int | None) -> Held | None:
        """The representation of the first places as far as this process knows it; None where it has to ask Redis.

        The same object for as long as the top stays as it is. None for a board that does not exist, too. Who was banned
        or hidden since the snapshot was made is not in it: the next snapshot may wait for Redis.
        """
        top = self._board_tops.get(board)
        snapshot = self._tops.get(board)
        if top is None or snapshot is None:
            return None
        if limit is None:
            limit = top
        if limit > len(snapshot.rankings) >= top:
            return None
        held = self._cached.get((board, limit))
        restrictions = self._security.restrictions
        if held is None or held.age != snapshot.age or held.restrictions != restrictions:
            body = document(page_of(without(snapshot, self._is_restricted), limit))
            held = self._cached[board, limit] = Held(snapshot.age, restrictions, body, entity_tag(body))
        return held

    def _is_restricted(self, user_id: str) -> bool:
        return self._security.restriction(user_id) is not None

    async def page(self, board: str, limit: int | None) -> tuple[bytes, str]:
        """The representation of the first places and its validator. Raises Problem, StoreUnavailable."""
        top = self._board_tops[self.known(board)]
        snapshot = self._tops.get(board)
        if snapshot is None:
            raise unavailable("redis")
        held = self.in_memory(board, limit)
        if held is not None:
            metrics.CACHE_HITS.inc()
            return held.body, held.tag
        body = document(await self._deep_page(board, top if limit is None else limit, snapshot))
        return body, entity_tag(body)

    async def _deep_page(self, board: str, limit: int, snapshot: Snapshot) -> Page:
        """A page beyond the top: from Redis or, while that is away, wiped or older, the last good one below the top."""
        metrics.CACHE_MISSES.inc()
        try:
            page = await self._redis[board](partial(self._store.page, board, limit))
        except StoreUnavailable:
            page = None
        if page is not None and not _older(page, snapshot):
            self._pages.keep((board, limit), page)
            return page
        last = self._last_page(board, limit)
        # After a swap it may be of another season; for moments it stands for an epoch that shards do not all have yet.
        if last is None or (last.answer.epoch != snapshot.epoch and last.seconds > SWAP_SECONDS):
            raise unavailable("redis")
        metrics.CACHE_STALE.inc()
        top = without(snapshot, self._is_restricted)
        return continued(top, last.answer, limit, self._security.is_restricted)

    def _last_page(self, board: str, limit: int) -> Kept[Page] | None:
        """The newest good page of at least so many places."""
        wider = [self._pages.get(key) for key in self._pages.questions() if key[0] == board and key[1] >= limit]
        return min((kept for kept in wider if kept is not None), key=lambda kept: kept.seconds, default=None)

    async def standing(self, board: str, user_id: str, around: int) -> bytes:
        """A user's place: from Redis or, while that is away, wiped or older, the last good answer of this process.

        Raises Problem.
        """
        key = (self.known(board), user_id, around)
        snapshot = self._tops.get(board)
        metrics.CACHE_MISSES.inc()
        try:
            found = await self._redis[board](partial(self._store.standing, *key))
        except StoreUnavailable:
            found = None
        except NotProjected as unknown:
            if not _is_older(unknown.age, snapshot):
                for wider in range(MAX_AROUND + 1):
                    self._standings.forget((board, user_id, wider))
                raise Problem("user-unknown", 404, "the user has no score on this board") from None
            found = None
        if found is not None and not _older(found[0], snapshot):
            standing = self._standing(*found, user_id)
            self._standings.keep(key, standing)
            return document(standing)
        last = self._last_standing(*key)
        if last is None or any(self._security.is_restricted(place.user_id) for place in last.answer.neighbours):
            raise unavailable("redis")
        if snapshot is not None and last.answer.epoch != snapshot.epoch and last.seconds > SWAP_SECONDS:
            raise unavailable("redis")
        metrics.CACHE_STALE.inc()
        return document(_narrowed(last.answer, around))

    def _last_standing(self, board: str, user_id: str, around: int) -> Kept[Standing] | None:
        """The newest good answer with at least so many neighbours."""
        wider = [self._standings.get((board, user_id, one)) for one in range(around, MAX_AROUND + 1)]
        return min((kept for kept in wider if kept is not None), key=lambda kept: kept.seconds, default=None)

    def _standing(self, page: Page, rank: int, players: int, user_id: str) -> Standing:
        own = next(place for place in page.rankings if place.user_id == user_id)
        return Standing(
            user_id=user_id,
            username=own.username,
            score=own.score,
            rank=rank,
            percentile=percentile(rank, players),
            tier=tier_of(self._tiers, own.score),
            players=players,
            neighbours=page.rankings,
            last_updated=page.last_updated,
            board=page.board,
            epoch=page.epoch,
            version=page.version,
        )


def _narrowed(standing: Standing, around: int) -> Standing:
    """The same with fewer neighbours."""
    near = tuple(place for place in standing.neighbours if abs(place.rank - standing.rank) <= around)
    return msgspec.structs.replace(standing, neighbours=near)


def _older(page: Page, snapshot: Snapshot | None) -> bool:
    """Whether Redis' answer is older than what this process has shown: from a copy that lacks the newest changes."""
    return _is_older((page.epoch, page.version), snapshot)


def _is_older(age: tuple[int, int], snapshot: Snapshot | None) -> bool:
    return snapshot is not None and age < snapshot.age
