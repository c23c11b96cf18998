"""Build a board's ranking anew from PostgreSQL, while updates keep coming.

1. Take the board's advisory lock, the next epoch from PostgreSQL's sequence and the season that runs.
2. Mark the epoch in Redis as being built: from now on every projector applies each update to it as well.
3. Only then read all scores of the primary and apply them with their versions. A commit that this read does not see
   comes as an event after the mark; one that both bring is applied once, by its version.
4. Swap: one script makes the epoch current, with version 1, and answers its top.
"""

import time
from contextlib import aclosing

import structlog

from podium.scoreboard.domain import timestamp
from podium.scoreboard.metrics import REBUILD_SECONDS, REBUILDS
from podium.scoreboard.projector.progress import Progress
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import RankingStore, Superseded

_log = structlog.get_logger("podium.projector.rebuild")


class Rebuilder:
    """Rebuilds boards; ``writer`` names this process's chunks in the ranking's count of writes."""

    def __init__(self, source: ScoreSource, store: RankingStore, writer: str) -> None:
        self._source = source
        self._store = store
        self._writer = f"{writer}:rebuild"

    async def rebuild(self, board: str, top: int, reason: str, *, forced: bool) -> bytes | None:
        """Build the ranking of ``board`` anew and answer its snapshot.

        None where another process does it, or, unless ``forced``, where there is a whole ranking by now. Raises
        StoreUnavailable, and Superseded where the new epoch was lost or overtaken on the way.
        """
        started = time.perf_counter()
        async with self._source.building(board) as building:
            if building is None:
                return None
            state = await self._store.state(board)
            if not forced and state.epoch is not None and state.building is None:
                return None
            epoch, now, season = await building.next_epoch()
            if not await self._store.begin(board, epoch, season):
                raise Superseded(board)
            _log.info("rebuild begins", board=board, epoch=epoch, reason=reason)
            progress = Progress()
            chunks = rows = 0
            async with aclosing(building.scores()) as scores:
                async for chunk in scores:
                    applied = await self._store.apply(board, top, self._writer, chunk, building=epoch)
                    if not progress.wrote(applied.writes):
                        raise Superseded(board)
                    chunks, rows = applied.writes[epoch], rows + len(chunk)
            snapshot = await self._store.swap(board, top, epoch, self._writer, chunks, timestamp(now))
        REBUILDS.labels(reason).inc()
        REBUILD_SECONDS.observe(time.perf_counter() - started)
        _log.info("rebuild done", board=board, epoch=epoch, users=rows)
        return snapshot
