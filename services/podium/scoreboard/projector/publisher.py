"""Tell the watchers' pods of new tops, and note in Redis what was told, so that another projector can catch up."""

import asyncio
from collections.abc import Callable

import structlog

from podium.common.bus import OUTAGE, TOP_PREFIX, Bus
from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable
from podium.scoreboard.domain import decode_snapshot
from podium.scoreboard.metrics import PUBLISHED
from podium.scoreboard.store import RankingStore

FLUSH_SECONDS = 2
"""How long the NATS server may take to confirm that it has what was published."""

_log = structlog.get_logger("podium.projector.publisher")


class Publisher:
    """Publishes at once; confirms and marks in the background, many versions with one round trip.

    ``on_published`` gets board, epoch and version of each top that was sent; it must return at once.
    """

    def __init__(self, bus: Bus, store: RankingStore, on_published: Callable[[str, int, int], None]) -> None:
        self._bus = bus
        self._store = store
        self._on_published = on_published
        self._unmarked: dict[str, tuple[int, int]] = {}
        self._wake = asyncio.Event()

    async def publish(self, board: str, epoch: int, version: int, snapshot: bytes) -> None:
        """Send a snapshot; where NATS is away it stays to be published, which ``catch_up`` does."""
        try:
            await self._bus.client.publish(TOP_PREFIX + board, snapshot)
        except OUTAGE as error:
            _log.warning("a top could not be published", board=board, error=type(error).__name__)
            return
        PUBLISHED.inc()
        self._on_published(board, epoch, version)
        self._unmarked[board] = max(self._unmarked.get(board, (0, 0)), (epoch, version))
        self._wake.set()

    async def publish_snapshot(self, board: str, data: bytes) -> int:
        """Send a snapshot that tells its own epoch and version; answers the epoch."""
        snapshot = decode_snapshot(data)
        await self.publish(board, snapshot.epoch, snapshot.version, data)
        return snapshot.epoch

    async def catch_up(self, board: str) -> None:
        """Publish the stored top: some projector did not live to do so. Raises StoreUnavailable."""
        data = await self._store.top_bytes(board)
        if data is not None:
            await self.publish_snapshot(board, data)

    async def settle(self) -> None:
        """Confirm and mark what was published; what cannot be marked is published again later."""
        unmarked, self._unmarked = self._unmarked, {}
        if not unmarked:
            return
        try:
            await self._bus.client.flush(FLUSH_SECONDS)
            for board, (epoch, version) in unmarked.items():
                await self._store.mark_published(board, epoch, version)
        except (*OUTAGE, StoreUnavailable) as error:
            _log.warning("published tops could not be marked", error=type(error).__name__)

    async def run(self) -> None:
        """Settle whenever something was published."""
        while True:
            heed_cancellation()
            await self._wake.wait()
            self._wake.clear()
            await self.settle()
