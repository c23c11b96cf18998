"""Build a board's ranking anew from PostgreSQL, while updates keep coming.

1. Take the board's advisory lock, the next epoch from PostgreSQL's sequence and the season that runs.
2. Mark the epoch in Redis as being built: from now on every projector applies each update to it as well.
3. Only then note how far the primary's write-ahead log has come, wait until a read replica has replayed it, and write
   all its rows to the epoch, with their versions. A commit that this read does not see comes as an event after the
   mark; one that both bring is applied once, by its version.
4. Swap: one script makes the epoch current, with version 1, and answers its top. The old epoch is freed.
"""

import asyncio
import time
from contextlib import aclosing
from typing import Final

import structlog

from podium.scoreboard.domain import Row, timestamp
from podium.scoreboard.layout import Place, places, shard_of
from podium.scoreboard.metrics import REBUILD_SECONDS, REBUILDS
from podium.scoreboard.projector.progress import Progress
from podium.scoreboard.projector.scan import Chunk
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import RankingStore, Superseded

LOAD_ROWS: Final = 512
"""Rows that one script writes, so that it stops the node for two milliseconds at most."""

_log = structlog.get_logger("podium.projector.rebuild")


class Rebuilder:
    """Rebuilds boards; ``writer`` names this process's chunks in the ranking's count of writes."""

    def __init__(self, source: ScoreSource, store: RankingStore, writer: str) -> None:
        self._source = source
        self._store = store
        self._writer = f"{writer}:rebuild"

    async def rebuild(
        self, board: str, top: int, reason: str, *, shards: int = 1, replacing: int | None = None
    ) -> bytes | None:
        """Build the ranking of ``board`` anew, spread over ``shards``, and answer its snapshot.

        None where another process does it, or where it is whole by now: there is an epoch, none is being built, and it
        is later than ``replacing``. Raises StoreUnavailable, and Superseded where the new epoch was lost or overtaken.
        """
        started = time.perf_counter()
        async with self._source.rebuilding(board) as locked:
            if not locked:
                return None
            state = await self._store.state(board)
            if state.epoch is not None and state.building is None and state.epoch > (replacing or 0):
                return None
            epoch, now, season = await self._source.next_epoch(board)
            if not await self._store.begin(board, epoch, shards=shards, top=top, season=season):
                raise Superseded(board)
            _log.info("rebuild begins", board=board, epoch=epoch, reason=reason, shards=shards)
            load = _Load(self._store, board, epoch, shards, self._writer)
            scan = await self._source.scan(board, season)
            async with aclosing(scan.chunks()) as chunks:
                async for chunk in chunks:
                    await load.write(chunk)
            snapshot = await self._store.swap(board, top, epoch, self._writer, load.writes, timestamp(now))
            await self._store.settle(board, top, await self._store.state(board))
        seconds = time.perf_counter() - started
        REBUILDS.labels(reason).inc()
        REBUILD_SECONDS.observe(seconds)
        _log.info("rebuild done", board=board, epoch=epoch, users=load.rows, seconds=round(seconds, 3),
                  replica=scan.from_replica)  # fmt: skip
        return snapshot


class _Load:
    """Writes rows to the shards of an epoch, to all of them at once; counts what it wrote."""

    def __init__(self, store: RankingStore, board: str, epoch: int, shards: int, writer: str) -> None:
        self._store = store
        self._epoch = epoch
        self._writer = writer
        self._places = places(board, shards)
        self._progress = Progress()
        self.writes = [0] * shards
        self.rows = 0

    async def write(self, chunk: Chunk) -> None:
        """Write a chunk. Raises Superseded where the epoch was lost or overtaken."""
        shards = len(self._places)
        parts: list[list[Row]] = [chunk.rows]
        if shards > 1:
            parts = [[] for _ in self._places]
            for user_id, row in zip(chunk.users, chunk.rows, strict=True):
                parts[shard_of(user_id, shards)].append(row)
        await asyncio.gather(
            *(self._write_part(place, part, chunk.newest) for place, part in zip(self._places, parts, strict=True))
        )
        self.rows += len(chunk.rows)

    async def _write_part(self, place: Place, rows: list[Row], newest: str) -> None:
        for start in range(0, len(rows), LOAD_ROWS):
            part = rows[start : start + LOAD_ROWS]
            writes = await self._store.load(place, self._writer, self._epoch, part, newest)
            if not self._progress.wrote({(self._epoch, place.shard): writes}):
                raise Superseded(place.board)
            self.writes[place.shard] = writes
