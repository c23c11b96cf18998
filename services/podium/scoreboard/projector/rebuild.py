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
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

import structlog

from podium.common.problems import StoreUnavailable
from podium.scoreboard.domain import Row, timestamp
from podium.scoreboard.layout import places, shard_of
from podium.scoreboard.metrics import REBUILD_SECONDS, REBUILDS
from podium.scoreboard.projector.scan import CHUNK_ROWS, Chunk
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import RankingStore, Superseded

LOAD_ROWS: Final = 512
"""Rows that one script writes, so that it stops the node for two milliseconds at most."""

SORTED_ROWS: Final = 32_768
"""Rows that are put into the order of their scores before they are written: neighbours in a sorted set are near each
other in memory, so Redis needs half the time. Ten megabytes, and as much for what is read ahead."""

LOADS_AT_ONCE: Final = 2
"""Boards that a process fills at a time; more wait, already marked as being built."""

CHUNKS_WAITING: Final = SORTED_ROWS // CHUNK_ROWS
"""Chunks that are read ahead."""

_log = structlog.get_logger("podium.projector.rebuild")


class Rebuilder:
    """Rebuilds boards; ``writer`` names this process's chunks in the ranking's count of writes."""

    def __init__(self, source: ScoreSource, store: RankingStore, writer: str) -> None:
        self._source = source
        self._store = store
        self._writer = f"{writer}:rebuild"
        self._slots = asyncio.Semaphore(LOADS_AT_ONCE)

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
            async with self._slots:
                scan = await self._source.scan(board, season)
                async with aclosing(scan.chunks()) as chunks:
                    await load.run(chunks)
            if (await self._source.seasons()).get(board, 1) != season:
                raise Superseded(board)  # it was reset: users of the ended season may have left while they were read
            snapshot = await self._store.swap(board, top, epoch, self._writer, load.writes, timestamp(now))
            await self._store.settle(board, top, await self._store.state(board))
        seconds = time.perf_counter() - started
        REBUILDS.labels(reason).inc()
        REBUILD_SECONDS.observe(seconds)
        _log.info("rebuild done", board=board, epoch=epoch, users=load.rows, seconds=round(seconds, 3),
                  replica=scan.from_replica)  # fmt: skip
        return snapshot


class _Load:
    """Writes chunks to the shards of an epoch while the next ones are read; counts what it wrote.

    One call at a time to each shard: that a failover lost one is seen by the count of the next.
    """

    def __init__(self, store: RankingStore, board: str, epoch: int, shards: int, writer: str) -> None:
        self._store = store
        self._epoch = epoch
        self._writer = writer
        self._places = places(board, shards)
        self._waiting: list[list[Row]] = [[] for _ in self._places]
        self._newest = ""
        self.writes = [0] * shards
        self.rows = 0

    async def run(self, chunks: AsyncIterator[Chunk]) -> None:
        """Write all chunks. Raises Superseded where the epoch was lost or overtaken, and what ``chunks`` raises."""
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue(CHUNKS_WAITING)

        async def read() -> None:
            async for chunk in chunks:
                await queue.put(chunk)
                await asyncio.sleep(0)  # the write that has been answered goes on before the next chunk is made
            await queue.put(None)

        async def write() -> None:
            while (chunk := await queue.get()) is not None:
                self._take(chunk)
                await self._write_full(SORTED_ROWS // len(self._places))
            await self._write_full(1)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                group.create_task(write())
        except* (StoreUnavailable, Superseded) as errors:
            raise errors.exceptions[0] from None

    def _take(self, chunk: Chunk) -> None:
        shards = len(self._places)
        if shards == 1:
            self._waiting[0] += chunk.rows
        else:
            for user_id, row in zip(chunk.users, chunk.rows, strict=True):
                self._waiting[shard_of(user_id, shards)].append(row)
        self._newest = max(self._newest, chunk.newest)
        self.rows += len(chunk.rows)

    async def _write_full(self, least: int) -> None:
        """Write what waits for each shard, if it is ``least`` rows or more."""
        due = [index for index, rows in enumerate(self._waiting) if len(rows) >= least]
        await asyncio.gather(*(self._write(index) for index in due))

    async def _write(self, index: int) -> None:
        rows, self._waiting[index] = sorted(self._waiting[index], key=_score), []
        for start in range(0, len(rows), LOAD_ROWS):
            part = rows[start : start + LOAD_ROWS]
            writes = await self._store.load(self._places[index], self._writer, self._epoch, part, self._newest)
            if writes <= self.writes[index]:
                raise Superseded(self._places[index].board)
            self.writes[index] = writes


def _score(row: Row) -> int:
    return row.score
