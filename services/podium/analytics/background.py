"""Work that goes on beside the requests: closing windows, gauges, forgetting."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from podium.analytics import metrics
from podium.analytics.consumer import CONSUMER
from podium.analytics.dead_letters import DeadLetters
from podium.analytics.domain import SCORE_BOUNDS
from podium.analytics.reports import ReportStore
from podium.analytics.seasons import Seasons
from podium.analytics.store import AnalyticsStore, BoardSpec
from podium.common.bus import EVENTS_STREAM, OUTAGE, Bus
from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable

CLOSE_LAG: Final = timedelta(seconds=2)
"""How long after its end a window is closed; by then its last updates were usually counted."""

CLOSE_SECONDS: Final = 1.0
"""How often closing is tried."""

GAUGE_SECONDS: Final = 10.0
"""How often the gauges are read from the stores."""

FORGET_SECONDS: Final = 600.0
"""How often old rows are deleted."""

SEASON_SECONDS: Final = 1.0
"""How often it is seen whether a season ends, or has ended."""

PROBE_SECONDS: Final = 2.0
"""How often PostgreSQL is reached for the readiness check."""

ACTIVE_SECONDS: Final = 300
"""What counts as active in the gauge."""

CONSUMERS: Final = (CONSUMER, "projector")
"""Durable consumers whose lag is shown."""

_log = structlog.get_logger("podium.analytics")


class Background:
    """The loops of one process."""

    def __init__(
        self, store: AnalyticsStore, reports: ReportStore, seasons: Seasons, boards: Sequence[BoardSpec]
    ) -> None:
        self._store = store
        self._reports = reports
        self._seasons = seasons
        self._boards = tuple(boards)
        self.postgres = False
        """Whether PostgreSQL answered when it was last asked."""

    async def probe(self) -> None:
        """Keep ``postgres`` true to what is."""
        while True:
            heed_cancellation()
            try:
                await self._store.ping()
                self.postgres = True
            except StoreUnavailable:
                self.postgres = False
            await asyncio.sleep(PROBE_SECONDS)

    async def close_windows(self) -> None:
        """Close each board's windows."""

        async def close() -> None:
            for board in self._boards:
                if await self._store.close_window(board, CLOSE_LAG):
                    metrics.WINDOWS_CLOSED.labels(board.name).inc()

        await _every(CLOSE_SECONDS, close)

    async def forget(self) -> None:
        """Delete what is only needed for a time."""
        await _every(FORGET_SECONDS, self._store.forget)

    async def reset_boards(self) -> None:
        """Begin the seasons that are due."""
        await _every(SEASON_SECONDS, self._seasons.reset_due)

    async def archive_seasons(self) -> None:
        """Fill and thin out the archive of ended seasons."""
        await _every(SEASON_SECONDS, self._seasons.archive)

    async def gauges(self, bus: Bus) -> None:
        """Read the gauges: what the database knows, and what NATS knows, each for itself."""

        async def read_database() -> None:
            metrics.OUTBOX_AGE.set(await self._store.outbox_age())
            metrics.STANDBYS.set(await self._store.standbys())
            metrics.LOG_AHEAD.set(await self._store.log_ahead())
            for board in self._boards:
                await self._board_gauges(board.name)

        async def read_nats() -> None:
            for consumer, letters in {**dict.fromkeys(CONSUMERS, 0), **await DeadLetters(bus).counts()}.items():
                metrics.DEAD_LETTERS.labels(consumer).set(letters)
            for consumer in CONSUMERS:
                info = await bus.jetstream.consumer_info(EVENTS_STREAM, consumer)
                metrics.CONSUMER_LAG.labels(consumer).set((info.num_pending or 0) + (info.num_ack_pending or 0))

        async with asyncio.TaskGroup() as group:
            group.create_task(_every(GAUGE_SECONDS, read_database))
            group.create_task(_every(GAUGE_SECONDS, read_nats))

    async def _board_gauges(self, board: str) -> None:
        users, top_score = await self._reports.state(board)
        metrics.USERS.labels(board).set(users)
        metrics.TOP_SCORE.labels(board).set(top_score or 0)
        metrics.ACTIVE_USERS.labels(board).set(await self._reports.active_users(board, ACTIVE_SECONDS))
        for bound, number in (await self._reports.scores_at_most(board, SCORE_BOUNDS)).items():
            metrics.SCORES_BELOW.labels(board, str(bound)).set(number)
        metrics.SCORES_BELOW.labels(board, "+Inf").set(users)
        for tier in await self._reports.tiers(board):
            metrics.TIER_USERS.labels(board, tier["name"]).set(tier["users"])


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work`` for ever; an outage is logged and waited out."""
    while True:
        heed_cancellation()
        try:
            await work()
        except (*OUTAGE, StoreUnavailable) as error:
            _log.warning("background work waits for a store", error=str(error) or type(error).__name__)
        heed_cancellation()
        await asyncio.sleep(seconds)
