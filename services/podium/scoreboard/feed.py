"""Where a pod's snapshots come from: messages of the projectors, and a re-read of Redis each second.

A message that was lost costs at most that second. NATS away: the re-read alone keeps the tops moving. Redis away:
messages alone do.
"""

import asyncio
import time
from collections.abc import Sequence

import structlog
from nats.aio.msg import Msg

from podium.common.bus import OUTAGE, TOP_PREFIX, Bus
from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable
from podium.scoreboard import metrics
from podium.scoreboard.domain import Snapshot, Tops, decode_snapshot
from podium.scoreboard.hub import Hub
from podium.scoreboard.store import RankingStore

READ_SECONDS = 1.0
BEHIND_READS = 3
"""Reads in a row that find Redis older than what watchers have seen, before a rebuild is asked for."""

REBUILD_PREFIX = "podium.rebuild."
ASK_AGAIN_SECONDS = 30.0

_log = structlog.get_logger("podium.scoreboard.feed")


class Feed:
    """Brings newer snapshots of ``boards`` to ``tops`` and the hub."""

    def __init__(self, boards: Sequence[str], store: RankingStore, tops: Tops, hub: Hub) -> None:
        self._boards = frozenset(boards)
        self._store = store
        self._tops = tops
        self._hub = hub
        self._bus: Bus | None = None
        self._behind: dict[str, int] = {}
        self._asked: dict[str, float] = {}
        self.redis_reached = False
        """Whether Redis was ever read."""
        self.nats_reached = False
        """Whether the projectors' messages were ever subscribed to."""
        self.redis_away = False

    @property
    def nats_away(self) -> bool:
        """Whether the connection to NATS, once there, is lost now."""
        return self._bus is not None and not self._bus.connected

    def take(self, snapshot: Snapshot) -> bool:
        """Take a snapshot if it is newer; tells whether it was."""
        if snapshot.board not in self._boards or not self._tops.offer(snapshot):
            return False
        self._hub.offer(snapshot)
        return True

    async def listen(self, bus: Bus) -> None:
        """Take the projectors' messages; the client subscribes again by itself after an outage."""

        async def message(message: Msg) -> None:
            try:
                self.take(decode_snapshot(message.data))
            except ValueError as error:
                _log.error("a top cannot be read", subject=message.subject, error=str(error))

        self._bus = bus
        await bus.client.subscribe(f"{TOP_PREFIX}*", cb=message)
        self.nats_reached = True

    async def read_loop(self) -> None:
        """Read the tops of Redis for ever."""
        while True:
            heed_cancellation()
            await self.read()
            metrics.FEED_CONNECTED.set(int(self._bus is not None and self._bus.connected))
            await asyncio.sleep(READ_SECONDS)

    async def read(self) -> None:
        """Read each board's top once; boards on nodes of Redis that are there are read whatever the others do."""
        away = False
        for board in self._boards:
            held = self._tops.get(board)
            try:
                found = await self._store.top(board)
            except StoreUnavailable:
                away = True
                continue
            except ValueError as error:  # no script wrote it; the next change of the top will
                _log.error("a top cannot be read", board=board, error=str(error))
                continue
            if found is not None and self.take(found) and held is not None:
                metrics.FEED_STALE.inc()
            await self._notice_older(board, found, held)
        if away and not self.redis_away:
            _log.warning("redis is away, tops come by messages alone")
        self.redis_away = away
        self.redis_reached = self.redis_reached or not away

    async def _notice_older(self, board: str, found: Snapshot | None, held: Snapshot | None) -> None:
        """Ask for a rebuild where Redis stays behind what watchers have seen and no projector noticed."""
        if found is None or held is None or found.age >= held.age:
            self._behind.pop(board, None)
            return
        self._behind[board] = self._behind.get(board, 0) + 1
        now = time.monotonic()
        if self._behind[board] < BEHIND_READS or now - self._asked.get(board, -ASK_AGAIN_SECONDS) < ASK_AGAIN_SECONDS:
            return
        self._asked[board] = now
        _log.warning("redis is older than what was shown, asking for a rebuild", board=board)
        if self._bus is not None:
            try:
                await self._bus.client.publish(REBUILD_PREFIX + board, b"")
            except OUTAGE as error:
                _log.warning("the rebuild could not be asked for", error=type(error).__name__)
