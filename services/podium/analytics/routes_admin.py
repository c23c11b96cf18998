"""Administration of dead letters and boards, for tokens with the scope ``admin``."""

from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from podium.analytics import models
from podium.analytics.context import AnalyticsContext
from podium.analytics.dead_letters import DeadLetter, NotReplayable
from podium.analytics.seasons import announce
from podium.common.authorization import authorized
from podium.common.problems import Problem, documented
from podium.common.tokens import Claims

MAX_SEQUENCE: Final = 2**53 - 1
"""Largest id of a dead letter: an integer that every JSON client reads exactly."""

router = APIRouter(prefix="/api/v1/admin", tags=["administration"])

Admin = Annotated[Claims, Depends(authorized("admin"))]
LetterId = Annotated[int, Path(alias="id", ge=1, le=MAX_SEQUENCE)]

_REFUSED: Final = documented(
    (400, "malformed-request"),
    (401, "token-missing"),
    (401, "token-invalid"),
    (401, "token-expired"),
    (403, "scope-missing"),
)
_LETTERS: Final = {**_REFUSED, **documented((503, "dependency-unavailable"))}
_LETTER: Final = {**_LETTERS, **documented((404, "dead-letter-unknown"))}
_BOARDS: Final = {**_REFUSED, **documented((404, "board-unknown"), (503, "database-unavailable"))}

_log = structlog.get_logger("podium.analytics.admin")


def _context(request: Request) -> AnalyticsContext:
    context: AnalyticsContext = request.app.state.context
    return context


def _document(letter: DeadLetter) -> models.DeadLetterDocument:
    return models.DeadLetterDocument(
        id=letter.id,
        consumer=letter.consumer,
        subject=letter.subject,
        reason=letter.reason,
        stream_sequence=letter.stream_sequence,
        size=len(letter.data),
        time=letter.time,
        trace_id=letter.trace_id,
        replays=letter.replays,
    )


async def _found(request: Request, letter_id: int) -> DeadLetter:
    letter = await _context(request).dead_letters().get(letter_id)
    if letter is None:
        raise Problem("dead-letter-unknown", 404, "there is no such dead letter")
    return letter


@router.get("/dead-letters", operation_id="listDeadLetters", summary="List dead letters", responses=_LETTERS)
async def list_letters(
    request: Request,
    _: Admin,
    after: Annotated[int, Query(ge=0, le=MAX_SEQUENCE)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> models.DeadLetterPage:
    """Messages that a consumer could not handle, oldest first; `after` takes the `next` of the page before."""
    letters = _context(request).dead_letters()
    page = await letters.page(after, limit + 1)
    shown = page[:limit]
    return models.DeadLetterPage(
        dead_letters=[_document(letter) for letter in shown],
        total=await letters.count(),
        next=shown[-1].id if len(page) > limit else None,
    )


@router.get("/dead-letters/{id}", operation_id="getDeadLetter", summary="One dead letter", responses=_LETTER)
async def get_letter(request: Request, _: Admin, letter_id: LetterId) -> models.DeadLetterDetail:
    """A dead letter with its content."""
    letter = await _found(request, letter_id)
    return models.DeadLetterDetail(
        **_document(letter).model_dump(), headers=dict(letter.headers), payload=letter.payload()
    )


@router.post(
    "/dead-letters/{id}/replay",
    operation_id="replayDeadLetter",
    summary="Publish a dead letter again",
    responses={**_LETTER, **documented((409, "not-replayable"))},
)
async def replay_letter(request: Request, claims: Admin, letter_id: LetterId) -> models.Replayed:
    """Publishes it to its own subject under a new message id and removes it once that is stored. The consumer that
    failed handles it again; if it still fails, it comes back as another dead letter that counts its replays."""
    letter = await _found(request, letter_id)
    try:
        message_id = await _context(request).dead_letters().replay(letter)
    except NotReplayable as error:
        raise Problem("not-replayable", 409, "the dead letter names no subject of the event stream") from error
    _log.info("dead letter replayed", id=letter.id, actor=claims.sub)
    return models.Replayed(id=letter.id, subject=letter.subject, message_id=message_id)


@router.delete(
    "/dead-letters/{id}",
    operation_id="discardDeadLetter",
    summary="Discard a dead letter",
    status_code=204,
    response_class=Response,
    responses=_LETTER,
)
async def discard_letter(request: Request, claims: Admin, letter_id: LetterId) -> Response:
    """Removes it for good."""
    if not await _context(request).dead_letters().discard(letter_id):
        raise Problem("dead-letter-unknown", 404, "there is no such dead letter")
    _log.info("dead letter discarded", id=letter_id, actor=claims.sub)
    return Response(status_code=204)


@router.get("/boards", operation_id="listBoards", summary="Boards and their seasons", responses=_BOARDS)
async def list_boards(request: Request, _: Admin) -> models.BoardList:
    """The boards of the resource with their running seasons."""
    context = _context(request)
    seasons = await context.board_store.seasons([board.name for board in context.boards])
    return models.BoardList(
        boards=[
            models.BoardDocument(
                board=one.board, season=one.season, season_started_at=one.started_at, season_ends_at=one.due_at
            )
            for one in seasons
        ]
    )


@router.post("/boards/{board}/reset", operation_id="resetBoard", summary="Begin a new season", responses=_BOARDS)
async def reset_board(request: Request, claims: Admin, board: Annotated[str, Path(max_length=63)]) -> models.BoardReset:
    """Ends the season: all users leave the ranking at once, each is back with their next accepted update, and the ended
    season can still be read. Updates that come in meanwhile count for one season or the other, never for both."""
    context = _context(request)
    season = await context.board_store.reset(await context.known_board(board))
    await announce(season, "admin", context.bus())
    _log.info("board reset", board=season.board, season=season.season, actor=claims.sub)
    return models.BoardReset(board=season.board, season=season.season, season_started_at=season.started_at)
