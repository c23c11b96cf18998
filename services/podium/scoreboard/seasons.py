"""Ended seasons, read from PostgreSQL (a read replica where there is one): the only reads that Redis has no part in.

A season's scores never change once it has ended, but users who are banned or hidden now are left out.
"""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.common.database import outage_mapped
from podium.common.problems import Problem
from podium.common.seasons import first_version
from podium.scoreboard.domain import Ranking, timestamp
from podium.scoreboard.representations import document, entity_tag

CACHED_SECONDS: Final = 10.0
"""How long a pod repeats an answer before it asks the database again."""

CACHED_ANSWERS: Final = 256
"""Answers a pod keeps."""

_LIST = text(
    """
    SELECT season, started_at, ended_at, players FROM season
    WHERE board = :board AND NOT purging ORDER BY season DESC
    """
)
_RUNNING = text("SELECT season, season_started_at AS started_at, due_at FROM board_state WHERE board = :board")
_ONE = text(
    """
    SELECT season, started_at, ended_at, players FROM season
    WHERE board = :board AND season = :season AND NOT purging
    """
)
_ORDER = "ORDER BY score DESC, reached_at, user_id LIMIT :limit"
_HIDDEN = """
    WITH hidden AS MATERIALIZED (
        SELECT user_id FROM player WHERE restriction IS NOT NULL AND restriction IN ('ban', 'hide')
          AND (restricted_until IS NULL OR restricted_until > clock_timestamp())
    )
    """
_ARCHIVED = f"""
    SELECT user_id, username, score, reached_at FROM season_score
    WHERE board = :board AND season = :season AND user_id NOT IN (SELECT user_id FROM hidden) {_ORDER}
    """  # noqa: S608
_PLACES = text(_HIDDEN + _ARCHIVED)
_PLACES_MEANWHILE = text(
    f"""
    {_HIDDEN} SELECT * FROM (({_ARCHIVED}) UNION ALL (
        SELECT user_id, username, score, reached_at FROM user_score
        WHERE board = :board AND version >= :first AND version < :next
          AND user_id NOT IN (SELECT user_id FROM hidden) {_ORDER}
    )) AS every {_ORDER}
    """  # noqa: S608
)
"""While the season's scores are still on their way into the archive, each in one of the two places."""


class EndedSeason(msgspec.Struct, frozen=True, rename="camel"):
    """An ended season in the list of a board. ``players`` is None for the moments until all scores are archived."""

    season: int
    started_at: str | None
    ended_at: str
    players: int | None


class RunningSeason(msgspec.Struct, frozen=True, rename="camel"):
    """The season that runs. ``started_at`` is None for the first; ``ends_at`` is the schedule's next time."""

    season: int
    started_at: str | None
    ends_at: str | None


class SeasonList(msgspec.Struct, frozen=True, rename="camel"):
    """The seasons of a board that can be read, newest first."""

    board: str
    current: RunningSeason
    seasons: tuple[EndedSeason, ...]


class SeasonPage(msgspec.Struct, frozen=True, rename="camel"):
    """The first places of an ended season."""

    board: str
    season: int
    started_at: str | None
    ended_at: str
    players: int | None
    rankings: tuple[Ranking, ...]


Answer = tuple[bytes, str]
"""A representation and its validator."""


class SeasonReader:
    """Answers reads of ended seasons. ``board_tops`` gives the size of each board's top.

    Every method raises Problem, and StoreUnavailable("postgres") while the database is away.
    """

    def __init__(self, board_tops: Mapping[str, int], engine: AsyncEngine) -> None:
        self._board_tops = board_tops
        self._engine = engine
        self._kept: dict[tuple[str, int, int], tuple[float, Answer]] = {}

    async def seasons(self, board: str) -> Answer:
        """The seasons of ``board``."""
        return await self._answer((board, 0, 0))

    async def page(self, board: str, season: int, limit: int | None) -> Answer:
        """The first places of an ended season."""
        return await self._answer((board, season, limit or self._board_tops[board]))

    async def _answer(self, key: tuple[str, int, int]) -> Answer:
        kept, now = self._kept.get(key), time.monotonic()
        if kept is not None and kept[0] > now:
            return kept[1]
        board, season, limit = key
        body = document(await self._page(board, season, limit) if season else await self._list(board))
        if len(self._kept) >= CACHED_ANSWERS:
            self._kept.clear()
        answer = body, entity_tag(body)
        self._kept[key] = now + CACHED_SECONDS, answer
        return answer

    async def _list(self, board: str) -> SeasonList:
        async with outage_mapped("seasons"), self._engine.connect() as connection:
            ended = (await connection.execute(_LIST, {"board": board})).all()
            running: Any = (await connection.execute(_RUNNING, {"board": board})).one_or_none()
        current = RunningSeason(1, None, None)
        if running is not None:
            current = RunningSeason(running.season, _time(running.started_at), _time(running.due_at))
        return SeasonList(board, current, tuple(EndedSeason(*_described(row)) for row in ended))

    async def _page(self, board: str, season: int, limit: int) -> SeasonPage:
        values = {"board": board, "season": season, "limit": limit}
        async with outage_mapped("season"), self._engine.connect() as connection:
            found: Any = (await connection.execute(_ONE, {"board": board, "season": season})).one_or_none()
            if found is None:
                raise Problem("season-unknown", 404, "there is no ended season of this number (any more)")
            if found.players is None:
                bounds = {"first": first_version(season), "next": first_version(season + 1)}
                rows = (await connection.execute(_PLACES_MEANWHILE, {**values, **bounds})).all()
            else:
                rows = (await connection.execute(_PLACES, values)).all()
        places = tuple(Ranking(row.user_id, row.username, row.score, rank) for rank, row in enumerate(rows, 1))
        return SeasonPage(board, *_described(found), places)


def _described(row: Any) -> tuple[int, str | None, str, int | None]:
    return row.season, _time(row.started_at), timestamp(row.ended_at), row.players


def _time(moment: datetime | None) -> str | None:
    return timestamp(moment) if moment is not None else None
