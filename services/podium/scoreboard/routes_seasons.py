"""HTTP of ended seasons: validate, ask one object, answer."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.responses import Response

from podium.common.problems import documented
from podium.scoreboard import caching
from podium.scoreboard.models import Count, SeasonAnswer, SeasonListAnswer, SeasonListQuery, SeasonQuery
from podium.scoreboard.reader import Reader
from podium.scoreboard.representations import matches
from podium.scoreboard.routes import once_each
from podium.scoreboard.seasons import SeasonReader
from podium.scoreboard.settings import CacheSettings

SeasonNumber = Annotated[Count, Path(ge=1, le=2**21, description="number of the season, from 1")]
IfNoneMatch = Annotated[str | None, Header()]

_REFUSED: Final = ((400, "malformed-request"), (429, "rate-limited"), (503, "database-unavailable"))
_NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "The representation of If-None-Match is still the present one"}
}


def make_router(cache: CacheSettings, reader: Callable[[], Reader], seasons: Callable[[], SeasonReader]) -> APIRouter:
    """The routes; the readers are asked for at each request, for they exist only while the app runs."""
    router = APIRouter(dependencies=[Depends(once_each)])

    @router.get(
        "/api/v1/scoreboard/seasons",
        summary="The seasons of a board",
        operation_id="listSeasons",
        response_model=SeasonListAnswer,
        responses={**_NOT_MODIFIED, **documented(*_REFUSED)},
    )
    async def list_seasons(query: Annotated[SeasonListQuery, Query()], if_none_match: IfNoneMatch = None) -> Response:
        """The season that runs, and those that have ended and can still be read, newest first."""
        board = reader().known(query.board)
        body, tag = await seasons().seasons(board)
        return _respond(body, caching.season_list(cache, board, tag), if_none_match)

    @router.get(
        "/api/v1/scoreboard/seasons/{season}",
        summary="The first places of an ended season",
        operation_id="getSeason",
        response_model=SeasonAnswer,
        responses={**_NOT_MODIFIED, **documented(*_REFUSED, (404, "season-unknown"))},
    )
    async def season(
        season: SeasonNumber, query: Annotated[SeasonQuery, Query()], if_none_match: IfNoneMatch = None
    ) -> Response:
        """The ranking as it stood at the season's end, without users who are banned or hidden now."""
        board = reader().known(query.board)
        body, tag = await seasons().page(board, season, query.limit)
        return _respond(body, caching.season_page(cache, board, tag), if_none_match)

    return router


def _respond(body: bytes, headers: Mapping[str, str], if_none_match: str | None) -> Response:
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
