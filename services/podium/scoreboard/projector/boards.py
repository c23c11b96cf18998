"""The boards a projector keeps: applying updates, noticing losses, rebuilding, publishing."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog

from podium.common.problems import StoreUnavailable
from podium.common.rules import Board
from podium.scoreboard import metrics
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.projector.drift import MANY, DriftCheck, Found
from podium.scoreboard.projector.progress import Progress
from podium.scoreboard.projector.publisher import Publisher
from podium.scoreboard.projector.rebuild import Rebuilder
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import Applied, BoardState, NoRanking, RankingStore, Superseded

RANKING_WAIT_SECONDS = 5.0
"""How long a batch waits for the mark of a rebuild before it is given back."""

_log = structlog.get_logger("podium.projector.boards")


class Boards:
    """All boards of this process; one that is not configured here (a newer configuration has it) gets the defaults."""

    def __init__(
        self,
        boards: Mapping[str, Board],
        store: RankingStore,
        source: ScoreSource,
        publisher: Publisher,
        rebuilder: Rebuilder,
        drift: DriftCheck,
        writer: str,
    ) -> None:
        self._boards = boards
        self._store = store
        self._source = source
        self._publisher = publisher
        self._rebuilder = rebuilder
        self._drift = drift
        self._writer = writer
        self._known: dict[str, Progress] = {board: Progress() for board in boards}
        # Answers about one board must be seen in the order in which Redis gave them.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._rebuilds: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, tuple[str, int]] = {}
        """Rebuilds that are wanted: why, and the epoch that is no good any more."""
        self._to_resize = set(boards)
        self._to_spread = set(boards)
        self.whole: set[str] = set()
        """Boards that have a ranking, as the last look found."""

    def config(self, board: str) -> Board:
        """The board's rules."""
        return self._boards.get(board) or Board(name=board)

    def missing(self) -> list[str]:
        """Configured boards without a ranking yet."""
        return [board for board in self._boards if board not in self.whole]

    def ask_rebuild(self, board: str, reason: str, epoch: int = 0) -> None:
        """Have the board rebuilt, whatever state it is in.

        Any epoch will do, also another process's, that is later than ``epoch`` and all that were seen.
        """
        bad = max(epoch, self._known.setdefault(board, Progress()).epoch)
        if board not in self._asked or self._asked[board][1] < bad:
            self._asked[board] = (reason, bad)

    def _answered(self, board: str, epoch: int) -> None:
        """Forget what was asked for where ``epoch`` is later than what was no good."""
        if board in self._asked and epoch > self._asked[board][1]:
            del self._asked[board]

    async def apply(self, board: str, updates: Sequence[ScoreUpdate]) -> None:
        """Apply updates and publish the top where it changed. Raises StoreUnavailable; waits for a missing ranking."""
        step = RankingStore.UPDATES_PER_CALL * self.config(board).shards
        for start in range(0, len(updates), step):
            await self._apply_part(board, updates[start : start + step])

    async def _apply_part(self, board: str, updates: Sequence[ScoreUpdate]) -> None:
        progress = self._known.setdefault(board, Progress())
        top = self.config(board).top
        async with self._locks[board]:
            try:
                applied = await self._store.apply(board, top, self._writer, updates)
            except NoRanking:
                await self._await_ranking(board)
                try:
                    applied = await self._store.apply(board, top, self._writer, updates)
                except NoRanking as error:
                    raise StoreUnavailable("redis") from error
            lost = progress.lost(applied.writes)
            older = applied.epoch is not None and not progress.saw(applied.epoch, applied.version)
            if older or lost:
                self.ask_rebuild(board, "regressed", lost)
            if applied.ahead:
                self.ask_rebuild(board, "season")
        await self._publish(board, applied)

    async def _publish(self, board: str, applied: Applied) -> None:
        if applied.snapshot is not None and applied.epoch is not None:
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

        Raises StoreUnavailable when all were looked at whose node of Redis is there.
        """
        seasons = await self._seasons()
        away: StoreUnavailable | None = None
        for board in list(self._known):
            try:
                await self._look_at(board, seasons.get(board, 1))
            except Superseded:  # swapped, or lost, while it was looked at: the next look sees which
                _log.info("the ranking changed under a look", board=board)
            except StoreUnavailable as error:
                away = error
        if away is not None:
            raise away

    async def _look_at(self, board: str, season: int) -> None:
        async with self._locks[board]:
            state = await self._store.state(board)
            if state.epoch is not None and not self._known[board].saw(state.epoch, state.version):
                self.ask_rebuild(board, "regressed")
        if state.epoch is not None and state.season < season:
            self.ask_rebuild(board, "season")
        metrics.DRIFT_USERS.labels(board).set(state.drifted)
        metrics.DRIFT_CHECKED.labels(board).set(state.checked)
        await self._mend(board, state)

    async def _seasons(self) -> Mapping[str, int]:
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
        config = self.config(board)
        if board in self._to_spread:
            self._to_spread.discard(board)
            if state.shards != config.shards:
                self.ask_rebuild(board, "spread")
        if state.building is None:
            self._answered(board, state.epoch)
        if board in self._asked:
            self._start_rebuild(board, self._asked[board][0])
        elif state.building is not None:  # where it is another's, that one holds the lock
            self._start_rebuild(board, "abandoned")
        applied, whole = await self._store.settle(board, config.top, state)
        if not whole and state.building is None:
            self.ask_rebuild(board, "missing")
        await self._publish(board, applied)
        if board in self._to_resize:
            await self._store.resize(board, config.top)
            self._to_resize.discard(board)
        elif state.published < state.version:
            await self._publisher.catch_up(board)

    def _start_rebuild(self, board: str, reason: str) -> None:
        running = self._rebuilds.get(board)
        if running is None or running.done():
            task = asyncio.create_task(self._rebuild(board, reason), name=f"rebuild {board}")
            task.add_done_callback(_report)
            self._rebuilds[board] = task

    async def _rebuild(self, board: str, reason: str) -> None:
        config = self.config(board)
        _, replacing = self._asked.get(board, ("", None))
        try:
            snapshot = await self._rebuilder.rebuild(
                board, config.top, reason, shards=config.shards, replacing=replacing
            )
        except (StoreUnavailable, Superseded) as error:
            _log.warning("rebuild ended early, the next look begins it again", board=board, error=str(error))
            return
        if snapshot is not None:
            self.whole.add(board)
            self._answered(board, await self._publisher.publish_snapshot(board, snapshot))

    async def check_drift(self, board: str, not_within: float = 0) -> Found | None:
        """Compare the ranking with SQL and heal it, or, where very much differs, have it rebuilt. None where it cannot
        be told, or was compared in the last ``not_within`` seconds. Raises StoreUnavailable."""
        # Also where a process of an older configuration had the last word.
        self._to_spread.add(board)
        self._to_resize.add(board)
        state = await self._store.state(board)
        if time.time() - state.checked < not_within:
            return None
        found = await self._drift.check(board, state)
        if found is not None and found.drifted:
            metrics.DRIFTED.labels(board).inc(found.drifted)
            await self._show_again(board)
            if found.drifted >= MANY:
                self.ask_rebuild(board, "drift")
        return found

    async def _show_again(self, board: str) -> None:
        """Make the stored top what the ranking says, and publish it where that changed it."""
        if await self._store.resize(board, self.config(board).top) is not None:
            await self._publisher.catch_up(board)

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
