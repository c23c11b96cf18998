"""HTTP of the scoreboard: validate, ask one object, answer. Reads of the top come from memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import Response

from podium.common.problems import FieldError, Problem, StoreUnavailable, documented, unavailable
from podium.common.rules import Tier, tier_of
from podium.common.tokens import bearer
from podium.scoreboard import caching
from podium.scoreboard.domain import Page, Snapshot, Standing, Tops, continued, percentile
from podium.scoreboard.handshake import agent_class
from podium.scoreboard.last_good import LastGood
from podium.scoreboard.models import ScoreboardAnswer, ScoreboardQuery, StandingAnswer, StandingQuery, StreamQuery
from podium.scoreboard.representations import document, entity_tag, matches, page_of
from podium.scoreboard.settings import CacheSettings
from podium.scoreboard.sse import EventStream
from podium.scoreboard.store import NotProjected, RankingStore
from podium.scoreboard.websocket import Gateway

PATH = "/api/v1/scoreboard"

LAST_PAGES: Final = 16
"""Pages beyond a top that a process keeps to answer with while Redis cannot; at most some megabytes."""

LAST_STANDINGS: Final = 2048
"""Users' places that a process keeps for the same; a kilobyte each, eight with the most neighbours."""


SWAP_SECONDS: Final = 5.0
"""How long an answer of the former epoch stands in for one of the present."""


@dataclass(frozen=True, slots=True)
class Held:
    """A representation that is kept: of which snapshot, its bytes, its validator."""

    age: tuple[int, int]
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
        is_restricted: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._board_tops = board_tops
        self._tiers = tiers
        self._tops = tops
        self._store = store
        self._is_restricted = is_restricted
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

        The same object for as long as the top stays as it is. None for a board that does not exist, too.
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
        if held is None or held.age != snapshot.age:
            body = document(page_of(snapshot, limit))
            held = self._cached[board, limit] = Held(snapshot.age, body, entity_tag(body))
        return held

    async def page(self, board: str, limit: int | None) -> tuple[bytes, str]:
        """The representation of the first places and its validator. Raises Problem, StoreUnavailable."""
        top = self._board_tops[self.known(board)]
        snapshot = self._tops.get(board)
        if snapshot is None:
            raise unavailable("redis")
        held = self.in_memory(board, limit)
        if held is not None:
            return held.body, held.tag
        body = document(await self._deep_page(board, top if limit is None else limit, snapshot))
        return body, entity_tag(body)

    async def _deep_page(self, board: str, limit: int, snapshot: Snapshot) -> Page:
        """A page beyond the top: from Redis or, while that is away, wiped or older, the last good one below the top."""
        try:
            page = await self._store.page(board, limit)
        except StoreUnavailable:
            page = None
        if page is not None and not _older(page, snapshot):
            self._pages.keep((board, limit), page)
            return page
        last = self._pages.get((board, limit))
        # After a swap it may be of another season; for moments it stands for an epoch that shards do not all have yet.
        if last is None or (last.answer.epoch != snapshot.epoch and last.seconds > SWAP_SECONDS):
            raise unavailable("redis")
        return continued(snapshot, last.answer, limit, self._is_restricted)

    async def standing(self, board: str, user_id: str, around: int) -> bytes:
        """A user's place: from Redis or, while that is away, wiped or older, the last good answer of this process.

        Raises Problem.
        """
        key = (self.known(board), user_id, around)
        snapshot = self._tops.get(board)
        try:
            found = await self._store.standing(*key)
        except StoreUnavailable:
            found = None
        except NotProjected as unknown:
            if not _is_older(unknown.age, snapshot):
                self._standings.forget(key)
                raise Problem("user-unknown", 404, "the user has no score on this board") from None
            found = None
        if found is not None and not _older(found[0], snapshot):
            standing = self._standing(*found, user_id)
            self._standings.keep(key, standing)
            return document(standing)
        last = self._standings.get(key)
        if last is None or any(self._is_restricted(place.user_id) for place in last.answer.neighbours):
            raise unavailable("redis")
        if snapshot is not None and last.answer.epoch != snapshot.epoch and last.seconds > SWAP_SECONDS:
            raise unavailable("redis")
        return document(last.answer)

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


def _older(page: Page, snapshot: Snapshot | None) -> bool:
    """Whether Redis' answer is older than what this process has shown: from a copy that lacks the newest changes."""
    return _is_older((page.epoch, page.version), snapshot)


def _is_older(age: tuple[int, int], snapshot: Snapshot | None) -> bool:
    return snapshot is not None and age < snapshot.age


def once_each(request: Request) -> None:
    """Refuse a query in which a name comes twice: no two readers would agree on what it means."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if names.count(name) > 1:
            error = FieldError(pointer=f"/{name}", detail="is given more than once")
            raise Problem("malformed-request", 400, "the query is not valid", errors=[error])


def make_router(cache: CacheSettings, reader: Callable[[], Reader], gateway: Callable[[], Gateway]) -> APIRouter:
    """The routes; ``reader`` and ``gateway`` are asked for at each request, for they exist only while the app runs."""
    router = APIRouter(dependencies=[Depends(once_each)])

    @router.get(
        PATH,
        summary="The first places of a board",
        operation_id="getScoreboard",
        response_model=ScoreboardAnswer,
        responses={
            200: {"description": "The ranking; ETag, Cache-Control, Surrogate-Key and Cache-Tag tell caches all"},
            304: {"description": "The representation of If-None-Match is still the present one"},
            **documented(
                (400, "malformed-request"),
                (429, "rate-limited"),
                (503, "dependency-unavailable"),
            ),
        },
    )
    async def scoreboard(
        query: Annotated[ScoreboardQuery, Query()], if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        body, tag = await reader().page(query.board, query.limit)
        headers = caching.ranking(cache, query.board, tag)
        if matches(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    @router.get(
        "/api/v1/scoreboard/users/{userId:path}",
        summary="A user's place and neighbours",
        operation_id="getStanding",
        response_model=StandingAnswer,
        responses=documented(
            (400, "malformed-request"),
            (404, "user-unknown"),
            (429, "rate-limited"),
            (503, "dependency-unavailable"),
        ),
    )
    async def standing(
        user_id: Annotated[str, Path(alias="userId")], query: Annotated[StandingQuery, Query()]
    ) -> Response:
        body = await reader().standing(query.board, user_id, query.around)
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    @router.get(
        "/api/v1/scoreboard/stream",
        summary="Live snapshots as Server-Sent Events",
        operation_id="streamScoreboard",
        response_class=Response,
        responses={
            200: {
                "description": "Events named `snapshot`, the first at once; comments as heartbeats",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **documented(
                (400, "malformed-request"),
                (401, "token-invalid"),
                (401, "token-expired"),
                (429, "too-many-connections"),
                (429, "rate-limited"),
                (503, "dependency-unavailable"),
            ),
        },
    )
    async def stream(request: Request, query: Annotated[StreamQuery, Query()]) -> Response:
        board = reader().known(query.board)
        return await _open_stream(gateway(), request, board)

    return router


async def _open_stream(gateway: Gateway, request: Request, board: str) -> Response:
    """A stream that holds a lease for as long as it lasts. Raises Problem."""
    claims = gateway.verifier.verify(bearer(request.headers)) if "authorization" in request.headers else None
    lease = await gateway.admit(request.scope, claims)
    agent = agent_class(request.headers.get("user-agent", ""))
    return EventStream(gateway.keeper, board, claims, agent, lambda: gateway.limiter.release(lease))
