"""Group commit: requests that come in together share a transaction, and each gets its own answer after COMMIT.

At idle a request starts its own batch at once. While batches are in flight, new requests gather for the next one.
The queue is bounded, and a request that waited too long is refused rather than answered by nobody.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from podium.scores.metrics import BATCH_SIZE, QUEUE

MAX_BATCH = 256
"""Updates in one transaction."""

MAX_IN_FLIGHT = 3
"""Batches in flight at once: while one waits for the disk (and a synchronous standby), others read and decide."""

MAX_QUEUE = 4096
"""Updates that may wait for a batch; at the rate of one process about a second of work."""

MAX_WAIT_SECONDS = 5.0
"""How long an update may wait for a batch to take it."""

LINGER_SECONDS = 0.001
"""How long a batch that is not full gathers more while others are in flight."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(Exception):
    """The queue is full, or the wait was too long: nothing was done."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Result]"
    deadline: float


class Batcher(Generic[Item, Result]):
    """Feeds ``commit`` with batches. ``commit`` gives one result (or exception) for each item, or raises for all."""

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        max_batch: int = MAX_BATCH,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_queue: int = MAX_QUEUE,
        max_wait: float = MAX_WAIT_SECONDS,
        linger: float = LINGER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._max_in_flight = max_in_flight
        self._max_wait = max_wait
        self._linger = linger
        self._clock = clock
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = 0
        self._workers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the workers, in the running loop."""
        self._workers = [
            asyncio.create_task(self._work(), name=f"batch-{number}") for number in range(self._max_in_flight)
        ]

    @property
    def alive(self) -> bool:
        """Whether all workers run."""
        return bool(self._workers) and not any(worker.done() for worker in self._workers)

    async def submit(self, item: Item) -> Result:
        """Wait for the batch that takes ``item``. Raises Overloaded, or what ``commit`` raised for it."""
        if len(self._queue) >= self._max_queue:
            raise Overloaded
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(item, future, self._clock() + self._max_wait))
        self._idle.clear()
        self._arrived.set()
        return await future

    async def close(self) -> None:
        """Let what waits be committed, then stop."""
        if self.alive:
            await self._idle.wait()
        for worker in self._workers:
            worker.cancel()
        for worker in self._workers:
            with suppress(asyncio.CancelledError):
                await worker
        for waiting in self._queue:
            if not waiting.future.done():
                waiting.future.set_exception(Overloaded())
        self._queue.clear()

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            if self._in_flight and len(self._queue) < self._max_batch:
                await asyncio.sleep(self._linger)
            batch = self._take()
            if batch:
                self._in_flight += 1
                try:
                    await self._run(batch)
                finally:
                    self._in_flight -= 1
            if not self._queue and not self._in_flight:
                self._idle.set()

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        now = self._clock()
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.future.done():  # its request was cancelled
                continue
            if waiting.deadline < now:
                waiting.future.set_exception(Overloaded())
                continue
            batch.append(waiting)
        QUEUE.set(len(self._queue))
        return batch

    async def _run(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        BATCH_SIZE.observe(len(batch))
        results: Sequence[Result | BaseException]
        try:
            results = await self._commit([waiting.item for waiting in batch])
        except asyncio.CancelledError:
            _settle(batch, [Overloaded()] * len(batch))
            raise
        except Exception as error:
            results = [error] * len(batch)
        _settle(batch, results)


def _settle(batch: Sequence[_Waiting[Item, Result]], results: Sequence[Result | BaseException]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.future.done():
            continue
        if isinstance(result, BaseException):
            waiting.future.set_exception(result)
        else:
            waiting.future.set_result(result)
