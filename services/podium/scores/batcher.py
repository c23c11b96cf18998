"""Group commit: requests that come in together share a transaction, and each gets its own answer after COMMIT.

At idle, and while updates come singly, a request starts its own batch at once. Under load a batch starts when as many
wait as are in flight, so that few large ones alternate: a batch costs as much as a dozen updates before its first.
What waits and is in flight is bounded by how long it would take to work it off, and a request that waited too long is
refused rather than answered by nobody.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import structlog

from podium.scores.metrics import BATCH_SIZE, QUEUE

MAX_BATCH = 256
"""Updates in one transaction."""

MAX_IN_FLIGHT = 3
"""Batches in flight at once: while one waits for the disk (and a synchronous standby), others read and decide."""

MAX_QUEUE = 4096
"""Updates that may wait for a batch, however fast they are worked off."""

MAX_WAIT_SECONDS = 5.0
"""How long an update may wait for a batch to take it."""

MAX_EXPECTED_SECONDS = 0.05
"""How long an update may be expected to take, by the rate at which those before it end; beyond, it is refused when it
comes."""

MIN_ADMITTED = 256
"""Updates that may always be under way, however slowly they end."""

LINGER_SECONDS = 0.002
"""Under load, how long a batch gathers more while one is in flight; four times as long while two are: a third is for
commits that take long, as with a synchronous standby far away."""

LINGER_FROM = 8
"""Updates in a usual batch from which on gathering is worth it: below, it would only cost them time."""

MEASURE_SECONDS = 0.1
"""How long the rate is measured at a time, while there is always a batch under way."""

_SMOOTHING = 0.1
"""Weight of the newest batch in the average of batch size."""

_RATE_SMOOTHING = 0.3
"""Weight of the newest measurement in the average of the rate."""

_log = structlog.get_logger("podium.scores.batcher")

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
        min_admitted: int = MIN_ADMITTED,
        max_wait: float = MAX_WAIT_SECONDS,
        max_expected: float = MAX_EXPECTED_SECONDS,
        linger: float = LINGER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._min_admitted = min_admitted
        self._max_queue = max_queue
        self._max_in_flight = max_in_flight
        self._max_wait = max_wait
        self._max_expected = max_expected
        self._linger = linger
        self._clock = clock
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._admitted = sys.maxsize
        self._usual_batch = 0.0
        self._rate = 0.0
        self._busy_since: float | None = None
        self._ended_items = 0
        self._batches: set[asyncio.Task[None]] = set()
        self._items_in_flight = 0
        self._look: asyncio.Handle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()

    @property
    def overloaded(self) -> bool:
        """Whether another item would be refused now."""
        waiting = len(self._queue)
        return waiting >= self._max_queue or waiting + self._items_in_flight >= self._admitted

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
        if self._loop is None or self.overloaded:
            raise Overloaded
        waiting: _Waiting[Item, Result] = _Waiting(item, settle, self._clock() + self._max_wait)
        self._queue.append(waiting)
        self._look_soon()
        return waiting

    async def close(self) -> None:
        """Let what waits be committed, then stop."""
        while self._queue or self._batches:
            if self._queue and len(self._batches) < self._max_in_flight:
                self._begin()
            if self._batches:
                await asyncio.wait(self._batches)
        self._loop = None
        for handle in (self._look, self._lingering):
            if handle is not None:
                handle.cancel()

    def _look_soon(self) -> None:
        """Look at the queue when all that has come by now is in it."""
        if self._look is None and self._loop is not None:
            self._look = self._loop.call_soon(self._begin_if_worth)

    def _begin_if_worth(self) -> None:
        self._look = None
        while self._queue and len(self._batches) < self._max_in_flight:
            enough = min(self._items_in_flight, self._max_batch)
            if self._batches and self._usual_batch >= LINGER_FROM and len(self._queue) < enough:
                if self._lingering is None and self._loop is not None:
                    self._lingering = self._loop.call_later(self._linger * len(self._batches) ** 2, self._lingered)
                return
            self._begin()

    def _lingered(self) -> None:
        self._lingering = None
        if self._queue and len(self._batches) < self._max_in_flight:
            self._begin()

    def _begin(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        batch = self._take()
        if not batch:
            return
        self._usual_batch += _SMOOTHING * (len(batch) - self._usual_batch)
        self._items_in_flight += len(batch)
        task = asyncio.create_task(self._run(batch), name="batch")
        self._batches.add(task)
        task.add_done_callback(partial(self._ended, len(batch)))

    def _ended(self, size: int, task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        self._measure(size)
        if self._queue:
            self._look_soon()

    def _measure(self, size: int) -> None:
        """Learn how fast batches end while there is always one under way: that rate bounds what is let in."""
        now = self._clock()
        if self._busy_since is None:
            self._busy_since, self._ended_items = now, 0
            return
        self._ended_items += size
        # Over a while: single batches may end close to each other, or far apart.
        if now - self._busy_since >= MEASURE_SECONDS:
            rate = self._ended_items / (now - self._busy_since)
            self._rate = rate if self._rate == 0 else self._rate + _RATE_SMOOTHING * (rate - self._rate)
            self._admitted = max(self._min_admitted, int(self._rate * self._max_expected))
            self._busy_since, self._ended_items = now, 0
        if not self._batches and not self._queue:
            self._busy_since = None

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
        return batch

    async def _run(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        BATCH_SIZE.observe(len(batch))
        results: Sequence[Result | BaseException]
        try:
            results = await self._commit([waiting.item for waiting in batch])
        except asyncio.CancelledError:
            self._items_in_flight -= len(batch)
            for waiting in batch:
                waiting.settle(Overloaded())
            raise
        except Exception as error:
            results = [error] * len(batch)
        self._items_in_flight -= len(batch)
        for waiting, result in zip(batch, results, strict=True):
            try:
                waiting.settle(result)
            except Exception as error:
                _log.error("an update could not be answered", exc_info=error)


def _resolve(future: "asyncio.Future[Result]", result: Result | BaseException) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
