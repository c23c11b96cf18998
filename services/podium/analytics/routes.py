"""Analytics for tokens with the scope ``analytics:read``."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from podium.analytics import models
from podium.analytics.context import AnalyticsContext
from podium.analytics.domain import Granularity, default_range, to_csv
from podium.analytics.reports import MAX_POINTS, ReportStore, Row
from podium.common.authorization import authorized
from podium.common.problems import FieldError, Problem, documented
from podium.common.tokens import Claims

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"])

DEFAULT_SPAN: Final = timedelta(hours=24)
"""What a range is long where it is left open."""

Reader = Annotated[Claims, Depends(authorized("analytics:read"))]
BoardName = Annotated[str, Query(alias="board", max_length=63)]
From = Annotated[AwareDatetime | None, Query(alias="from", description="24 hours before `to` by default")]
To = Annotated[AwareDatetime | None, Query(alias="to", description="now by default; not included")]
Limit = Annotated[int, Query(ge=1, le=MAX_POINTS)]

REFUSED: Final = documented(
    (400, "malformed-request"),
    (401, "token-missing"),
    (401, "token-invalid"),
    (401, "token-expired"),
    (403, "scope-missing"),
    (404, "board-unknown"),
    (503, "database-unavailable"),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A report's parameters."""

    board: str
    start: datetime
    end: datetime
    limit: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """A report: what it is, its columns, how its rows are made."""

    description: str
    columns: tuple[str, ...]
    rows: Callable[[ReportStore, _Asked], Awaitable[list[Row]]]


async def _activity(reports: ReportStore, asked: _Asked) -> list[Row]:
    return await reports.series(asked.board, asked.start, asked.end, "interval")


async def _players(reports: ReportStore, asked: _Asked) -> list[Row]:
    return await reports.players(asked.board, asked.limit)


async def _distribution(reports: ReportStore, asked: _Asked) -> list[Row]:
    return (await reports.distribution(asked.board, 20))[0]


async def _turnover(reports: ReportStore, asked: _Asked) -> list[Row]:
    rows = await reports.turnover(asked.board, asked.start, asked.end)
    return [
        {**row, "entered": " ".join(row["entered"]), "left": " ".join(row["left"])}
        for row in rows
        if row["entered"] or row["left"]
    ]


async def _actions(reports: ReportStore, asked: _Asked) -> list[Row]:
    return await reports.actions(asked.start, asked.end)


REPORTS: Final = {
    "activity": _Kind(
        "ScoreboardAnalytics, one row a window",
        ("window_start", "window_end", "updates", "active_users", "points", "total_users", "top_score", "mean_score",
         "turnover", "closed"),
        _activity,
    ),
    "players": _Kind(
        "The ranking now",
        ("rank", "user_id", "username", "score", "total_actions", "reached_at", "last_updated"),
        _players,
    ),
    "distribution": _Kind("Users by score", ("from_score", "to_score", "users"), _distribution),
    "turnover": _Kind("Changes of the top", ("window_start", "window_end", "entered", "left"), _turnover),
    "actions": _Kind(
        "Accepted updates by type of action, over all boards",
        ("action_type", "updates", "users", "points", "first_at", "last_at"),
        _actions,
    ),
}  # fmt: skip


def _context(request: Request) -> AnalyticsContext:
    context: AnalyticsContext = request.app.state.context
    return context


async def _asked_board(request: Request, _: Reader, board: BoardName = "default") -> str:
    return await _context(request).known_board(board)


Board = Annotated[str, Depends(_asked_board)]


def _range(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    first, last = default_range(start, end, datetime.now(UTC), DEFAULT_SPAN)
    if first >= last:
        error = FieldError(pointer="/from", detail="must lie before `to`")
        raise Problem("malformed-request", 400, "the range is empty", errors=[error])
    return first, last


@router.get("/summary", operation_id="analyticsSummary", summary="A board at a glance", responses=REFUSED)
async def summary(request: Request, board: Board) -> models.Summary:
    """Users, scores, tiers, and the activity of the last minutes, hour and day."""
    return models.Summary.model_validate(await _context(request).reports.summary(board))


@router.get("/timeseries", operation_id="analyticsTimeSeries", summary="Activity over time", responses=REFUSED)
async def timeseries(
    request: Request, board: Board, start: From = None, end: To = None, granularity: Granularity = "interval"
) -> models.Series:
    """ScoreboardAnalytics, one point a window, an hour or a day; distinct users are counted for each anew."""
    rows = await _context(request).reports.series(board, *_range(start, end), granularity)
    return models.Series(
        board=board, granularity=granularity, points=[models.SeriesPoint.model_validate(row) for row in rows]
    )


@router.get("/distribution", operation_id="analyticsDistribution", summary="Users by score", responses=REFUSED)
async def distribution(
    request: Request, board: Board, buckets: Annotated[int, Query(ge=1, le=200)] = 20
) -> models.Distribution:
    """A histogram in ranges of equal width, quantiles, and users by tier."""
    reports = _context(request).reports
    rows, quantiles = await reports.distribution(board, buckets)
    return models.Distribution(
        board=board,
        buckets=[models.Bucket.model_validate(row) for row in rows],
        quantiles=models.Quantiles(p50=quantiles[0], p90=quantiles[1], p99=quantiles[2]),
        tiers=[models.TierCount.model_validate(row) for row in await reports.tiers(board)],
    )


@router.get("/turnover", operation_id="analyticsTurnover", summary="Changes of the top", responses=REFUSED)
async def top_turnover(request: Request, board: Board, start: From = None, end: To = None) -> models.Turnover:
    """Who entered and who left the top, from the end of one window to the end of the next."""
    rows = await _context(request).reports.turnover(board, *_range(start, end))
    return models.Turnover(board=board, points=[models.TurnoverPoint.model_validate(row) for row in rows])


@router.get("/reports", operation_id="listReports", summary="All reports", responses=REFUSED)
async def list_reports(_: Reader) -> models.ReportList:
    """The reports that can be asked for, with their columns."""
    return models.ReportList(
        reports=[
            models.ReportInfo(name=name, description=kind.description, columns=[_camel(one) for one in kind.columns])
            for name, kind in REPORTS.items()
        ]
    )


@router.get(
    "/reports/{name}",
    operation_id="getReport",
    summary="A report as JSON or CSV",
    response_model=models.Report,
    responses={
        **REFUSED,
        **documented((404, "board-unknown"), (404, "report-unknown")),
        200: {"description": "The report", "content": {"text/csv": {"schema": {"type": "string"}}}},
    },
)
async def report(
    request: Request,
    board: Board,
    name: str,
    start: From = None,
    end: To = None,
    limit: Limit = 1000,
    output: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response:
    """A table. In CSV (RFC 4180) text that a spreadsheet would take for a formula gets an apostrophe before it."""
    kind = REPORTS.get(name)
    if kind is None:
        raise Problem("report-unknown", 404, f"there is no such report; there are {', '.join(REPORTS)}")
    found = await kind.rows(_context(request).reports, _Asked(board, *_range(start, end), limit))
    columns = [_camel(column) for column in kind.columns]
    rows = [{_camel(column): row[column] for column in kind.columns} for row in found]
    headers = {"Cache-Control": "no-store"}
    if output == "csv":
        headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
        return Response(to_csv(columns, rows), media_type="text/csv; charset=utf-8", headers=headers)
    document = models.Report(name=name, board=board, generated_at=datetime.now(UTC), columns=columns, rows=rows)
    return Response(document.model_dump_json(by_alias=True), media_type="application/json", headers=headers)


def _camel(name: str) -> Any:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
