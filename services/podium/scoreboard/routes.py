"""HTTP of the scoreboard: validate, ask one object, answer. Reads of the top come from memory."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import Response

from podium.common.problems import FieldError, Problem, documented
from podium.common.tokens import bearer
from podium.scoreboard import caching
from podium.scoreboard.handshake import agent_class
from podium.scoreboard.models import ScoreboardAnswer, ScoreboardQuery, StandingAnswer, StandingQuery, StreamQuery
from podium.scoreboard.reader import Reader
from podium.scoreboard.representations import matches
from podium.scoreboard.settings import CacheSettings
from podium.scoreboard.sse import EventStream
from podium.scoreboard.websocket import Gateway

PATH = "/api/v1/scoreboard"


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
