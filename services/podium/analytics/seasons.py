"""Seasons as work that goes on: resets by schedule, the archive, and telling the projectors."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from podium.analytics import metrics
from podium.analytics.archive import Archive
from podium.analytics.boards import BoardStore, Season
from podium.common.bus import OUTAGE, Bus
from podium.common.rules import Board

STEP_PAUSE_SECONDS: Final = 0.02
"""Between two steps of archiving, so that score updates come first: a million scores take about half a minute."""

REBUILD_PREFIX: Final = "podium.rebuild."
"""Core NATS: asks one projector to build a board's ranking anew."""

_log = structlog.get_logger("podium.analytics.seasons")


class Seasons:
    """The seasons of ``boards``, whose ``reset`` and ``retain_seasons`` it keeps to."""

    def __init__(
        self, store: BoardStore, archive: Archive, boards: Sequence[Board], bus: Callable[[], Bus | None]
    ) -> None:
        self._store = store
        self._archive = archive
        self._schedules = {board.name: board.reset for board in boards}
        self._retained = {board.name: board.retain_seasons for board in boards}
        self._bus = bus

    async def reset_due(self) -> None:
        """Begin the seasons that are due. Raises StoreUnavailable."""
        for season in await self._store.reset_due(self._schedules):
            _log.info("board reset", board=season.board, season=season.season, actor="schedule")
            await announce(season, "schedule", self._bus())

    async def archive(self) -> None:
        """Archive what has ended and delete what is not kept, until nothing is left to do. Raises StoreUnavailable."""
        for board, retain in self._retained.items():
            moved, place = await self._archive.step(board)
            metrics.ARCHIVED.labels(board).inc(moved)
            while place is not None:
                await asyncio.sleep(STEP_PAUSE_SECONDS)
                moved, place = await self._archive.step(board, place)
                metrics.ARCHIVED.labels(board).inc(moved)
            more = True
            while more:
                deleted, more = await self._archive.thin_out(board, retain)
                metrics.FORGOTTEN.labels(board).inc(deleted)
                await asyncio.sleep(STEP_PAUSE_SECONDS)


async def announce(season: Season, cause: str, bus: Bus | None) -> None:
    """Count a new season and have the ranking emptied at once; without NATS the projectors notice within a second."""
    metrics.BOARD_RESETS.labels(season.board, cause).inc()
    if bus is None or not bus.connected:
        return
    try:
        await bus.client.publish(REBUILD_PREFIX + season.board, b"")
    except OUTAGE as error:
        _log.warning("the projectors could not be told of a reset", error=type(error).__name__)
