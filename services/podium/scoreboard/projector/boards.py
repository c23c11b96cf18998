"""The boards a projector keeps: applying updates, noticing losses, rebuilding, publishing."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog

from podium.common.problems import StoreUnavailable
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.metrics import DRIFT
from podium.scoreboard.projector.progress import Progress
from podium.scoreboard.projector.publisher import Publisher
from podium.scoreboard.projector.rebuild import Rebuilder
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import BoardState, NoRanking, RankingStore, Superseded

DEFAULT_TOP = 10
"""Places in the top of a board that is not in this process's settings (one that a newer configuration has)."""

RANKING_WAIT_SECONDS = 5.0
"""How long a batch waits for the mark of a rebuild before it is given back."""

DRIFT_LOOKS = 3
"""Looks, a second apart, that must all find the same difference: updates on their way are no drift."""

_log = structlog.get_logger("podium.projector.boards")


class Boards:
    """All boards of this process. ``tops`` gives the size of each configured board's top."""

    def __init__(
        self,
        tops: Mapping[str, int],
        store: RankingStore,
        source: ScoreSource,
        publisher: Publisher,
        writer: str,
    ) -> None:
        self._tops = tops
        self._store = store
        self._source = source
        self._publisher = publisher
        self._writer = writer
        self._rebuilder = Rebuilder(source, store, writer)
        self._known: dict[str, Progress] = {board: Progress() for board in tops}
        # Answers about one board must be seen in the order in which Redis gave them.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rebuilds: dict[str, asyncio.Task[None]] = {}
        self._reasons: dict[str, str] = {}
        self._to_resize = set(tops)
        self.whole: set[str] = set()
        """Boards that have a ranking, as the last look found."""

    def top_of(self, board: str) -> int:
        """Places in the board's top."""
        return self._tops.get(board, DEFAULT_TOP)

    def missing(self) -> list[str]:
        """Configured boards without a ranking yet."""
        return [board for board in self._tops if board not in self.whole]

    def ask_rebuild(self, board: str, reason: str) -> None:
        """Have the board rebuilt, whatever state it is in."""
        self._known.setdefault(board, Progress())
        self._reasons.setdefault(board, reason)

    async def apply(self, board: str, updates: Sequence[ScoreUpdate]) -> None:
        """Apply updates and publish the top where it changed. Raises StoreUnavailable; waits for a missing ranking."""
        for start in range(0, len(updates), RankingStore.UPDATES_PER_CALL):
            await self._apply_part(board, updates[start : start + RankingStore.UPDATES_PER_CALL])

    async def _apply_part(self, board: str, updates: Sequence[ScoreUpdate]) -> None:
        progress = self._known.setdefault(board, Progress())
        async with self._locks[board]:
            try:
                applied = await self._store.apply(board, self.top_of(board), self._writer, updates)
            except NoRanking:
                await self._await_ranking(board)
                try:
                    applied = await self._store.apply(board, self.top_of(board), self._writer, updates)
                except NoRanking as error:
                    raise StoreUnavailable("redis") from error
            kept = progress.wrote(applied.writes)
            if not progress.saw(applied.epoch, applied.version) or not kept:
                self.ask_rebuild(board, "regressed")
            if applied.ahead:
                self.ask_rebuild(board, "season")
        if applied.snapshot is not None:
            await self._publisher.publish(board, applied.epoch, applied.version, applied.snapshot)

    async def _await_ranking(self, board: str) -> None:
        """Start a rebuild and wait until Redis knows of it: from then on updates have where to go."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RANKING_WAIT_SECONDS
        while loop.time() < deadline:
            state = await self._store.state(board)
            if state.epoch is not None or state.building is not None:
                return
            self._start_rebuild(board, "missing")
            await asyncio.sleep(0.05)
        raise StoreUnavailable("redis")

    async def look_after(self) -> None:
        """One look at every board: rebuild what is not whole or of an ended season, publish what was not.

        Raises StoreUnavailable.
        """
        seasons = await self._seasons()
        for board, progress in list(self._known.items()):
            async with self._locks[board]:
                state = await self._store.state(board)
                if state.epoch is not None and not progress.saw(state.epoch, state.version):
                    self.ask_rebuild(board, "regressed")
            if state.season < seasons.get(board, 1):
                self.ask_rebuild(board, "season")
            await self._mend(board, state)

    async def _seasons(self) -> dict[str, int]:
        """The running seasons; none while PostgreSQL is away, for then none begins."""
        try:
            return await self._source.seasons()
        except StoreUnavailable:
            return {}

    async def _mend(self, board: str, state: BoardState) -> None:
        if state.epoch is None:
            self.whole.discard(board)
            self._start_rebuild(board, "missing")
            return
        self.whole.add(board)
        if board in self._reasons:
            self._start_rebuild(board, self._reasons[board])
        elif state.building is not None:  # where it is another's, that one holds the lock
            self._start_rebuild(board, "abandoned")
        if board in self._to_resize:
            await self._store.resize(board, self.top_of(board))
            self._to_resize.discard(board)
        if state.published < state.version:
            await self._publisher.catch_up(board)

    def _start_rebuild(self, board: str, reason: str) -> None:
        running = self._rebuilds.get(board)
        if running is None or running.done():
            task = asyncio.create_task(self._rebuild(board, reason), name=f"rebuild {board}")
            task.add_done_callback(_report)
            self._rebuilds[board] = task

    async def _rebuild(self, board: str, reason: str) -> None:
        asked = self._reasons.get(board)
        try:
            snapshot = await self._rebuilder.rebuild(board, self.top_of(board), reason, forced=asked is not None)
        except (StoreUnavailable, Superseded) as error:
            _log.warning("rebuild ended early, the next look begins it again", board=board, error=str(error))
            return
        if snapshot is not None:
            if asked is not None and self._reasons.get(board) == asked:
                del self._reasons[board]
            self.whole.add(board)
            await self._publisher.publish_snapshot(board, snapshot)

    async def check_drift(self, board: str) -> bool:
        """Compare the top with SQL's; where they stay apart, count it and rebuild. Raises StoreUnavailable."""
        limit = self.top_of(board)
        before = None
        for look in range(DRIFT_LOOKS):
            if look:
                await asyncio.sleep(1)
            expected = tuple(await self._source.top(board, limit))
            found = await self._store.places(board, limit)
            if found == expected or (before is not None and before != (expected, found)):
                return False
            before = (expected, found)
        DRIFT.labels(board).inc()
        _log.error("the ranking differs from the database, it is built anew", board=board)
        self.ask_rebuild(board, "drift")
        return True

    async def close(self) -> None:
        """End what runs."""
        running = [task for task in self._rebuilds.values() if not task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    """Say why a rebuild failed by itself; the next look tries again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("rebuild failed", task=task.get_name(), exc_info=error)
