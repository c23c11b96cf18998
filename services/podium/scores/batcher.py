"""Group commit: requests that come in together share a transaction, and each gets its own answer after COMMIT.

At idle a request starts its own batch at once. While batches are in flight, new requests gather for the next one.
The queue is bounded by its length and by how long it would take to work it off, and a request that waited too long is
refused rather than answered by nobody.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from podium.scores.metrics import BATCH_SIZE, QUEUE

MAX_BATCH = 256
"""Updates in one transaction."""

MAX_IN_FLIGHT = 3
"""Batches in flight at once: while one waits for the disk (and a synchronous standby), others read and decide."""

MAX_QUEUE = 4096
"""Updates that may wait for a batch, however fast they are worked off."""

MAX_WAIT_SECONDS = 5.0
"""How long an update may wait for a batch to take it."""

MAX_EXPECTED_WAIT_SECONDS = 0.05
"""How long an update may be expected to wait for a batch to take it; beyond it is refused when it comes."""

LINGER_SECONDS = 0.001
"""How long a batch that is not full gathers more while others are in flight and updates come fast."""

LINGER_FROM = 8
"""Updates in a usual batch from which on lingering is worth it: below, it would only cost them time."""

_SMOOTHING = 0.1
"""Weight of the newest batch in the averages of batch size and rate."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overloaded(Exception):
    """The queue is full, or the wait was too long: nothing was done."""


class _Waiting(Generic[Item, Result]):
    __slots__ = ("deadline", "gone", "item", "settle")

    def __init__(self, item: Item, settle: "Callable[[Result | BaseException], None]", deadline: float) -> None:
        self.item = item
        self.settle = settle
        self.deadline = deadline
        self.gone = False


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
        max_expected_wait: float = MAX_EXPECTED_WAIT_SECONDS,
        linger: float = LINGER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._max_in_flight = max_in_flight
        self._max_wait = max_wait
        self._max_expected_wait = max_expected_wait
        self._linger = linger
        self._clock = clock
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._bound = max_queue
        self._usual_batch = 0.0
        self._rate = 0.0
        self._taken_at: float | None = None
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

    @property
    def overloaded(self) -> bool:
        """Whether another item would be refused now."""
        return len(self._queue) >= self._bound

    async def submit(self, item: Item) -> Result:
        """Wait for the batch that takes ``item``. Raises Overloaded, or what ``commit`` raised for it."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = self.add(item, partial(_resolve, future))
        try:
            return await future
        except asyncio.CancelledError:
            waiting.gone = True
            raise

    def add(self, item: Item, settle: Callable[[Result | BaseException], None]) -> _Waiting[Item, Result]:
        """Have ``item`` committed and ``settle`` called with its result or exception. Raises Overloaded."""
        if len(self._queue) >= self._bound:
            raise Overloaded
        waiting: _Waiting[Item, Result] = _Waiting(item, settle, self._clock() + self._max_wait)
        self._queue.append(waiting)
        self._idle.clear()
        self._arrived.set()
        return waiting

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
            waiting.settle(Overloaded())
        self._queue.clear()

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                self._taken_at = None
                await self._arrived.wait()
            if self._in_flight and self._usual_batch >= LINGER_FROM and len(self._queue) < self._max_batch:
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
            if waiting.gone:  # its request was cancelled
                continue
            if waiting.deadline < now:
                waiting.settle(Overloaded())
                continue
            batch.append(waiting)
        QUEUE.set(len(self._queue))
        if batch:
            self._measure(len(batch), now)
        return batch

    def _measure(self, size: int, now: float) -> None:
        """Learn how large batches are, and how fast full ones are taken: that rate bounds the queue."""
        self._usual_batch += _SMOOTHING * (size - self._usual_batch)
        if self._taken_at is not None and self._queue and now > self._taken_at:
            rate = size / (now - self._taken_at)
            self._rate = rate if self._rate == 0 else self._rate + _SMOOTHING * (rate - self._rate)
            # A whole batch may always wait: the next one takes it.
            self._bound = min(self._max_queue, max(self._max_batch, int(self._rate * self._max_expected_wait)))
        self._taken_at = now

    async def _run(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        BATCH_SIZE.observe(len(batch))
        results: Sequence[Result | BaseException]
        try:
            results = await self._commit([waiting.item for waiting in batch])
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.settle(Overloaded())
            raise
        except Exception as error:
            results = [error] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            waiting.settle(result)


def _resolve(future: "asyncio.Future[Result]", result: Result | BaseException) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
