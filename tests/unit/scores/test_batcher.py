"""Group commit: who comes together is committed together, and everyone gets an answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from podium.scores.batcher import Batcher, Overloaded


class Recorder:
    """A commit that records its batches and waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = asyncio.Semaphore(0)
        self.go = asyncio.Event()

    async def commit(self, items: Sequence[int]) -> Sequence[int | BaseException]:
        self.batches.append(list(items))
        self.entered.release()
        await self.go.wait()
        return [ValueError("poison") if item < 0 else item * 2 for item in items]


@asynccontextmanager
async def running(recorder: Recorder, **options: Any) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(recorder.commit, **options)
    batcher.start()
    try:
        yield batcher
    finally:
        recorder.go.set()
        await batcher.close()


async def test_each_gets_its_own_answer() -> None:
    """Results come back to whom they belong; one exception harms nobody else."""
    recorder = Recorder()
    recorder.go.set()
    async with running(recorder) as batcher:
        results = await asyncio.gather(*(batcher.submit(item) for item in (1, -1, 3)), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], ValueError)
    assert results[2] == 6


async def test_while_batches_are_in_flight_others_gather() -> None:
    """The first goes alone and at once; what comes meanwhile shares the next batch, up to its size."""
    recorder = Recorder()
    async with running(recorder, max_in_flight=1, max_batch=4) as batcher:
        first = asyncio.create_task(batcher.submit(0))
        await recorder.entered.acquire()
        others = [asyncio.create_task(batcher.submit(item)) for item in range(1, 7)]
        await asyncio.sleep(0)
        recorder.go.set()
        assert await asyncio.gather(first, *others) == [0, 2, 4, 6, 8, 10, 12]
    assert recorder.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_under_load_a_batch_waits_for_company() -> None:
    """Once batches are large, another starts when as many wait as are in flight, or after lingering."""
    recorder = Recorder()
    async with running(recorder, max_in_flight=2, linger=3600) as batcher:
        recorder.go.set()
        for _ in range(20):
            await asyncio.gather(*(batcher.submit(item) for item in range(64)))
        recorder.batches.clear()
        recorder.go.clear()
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(4)]
        await recorder.entered.acquire()
        while recorder.batches != [[0, 1, 2, 3]]:
            await recorder.entered.acquire()
        tasks += [asyncio.create_task(batcher.submit(item)) for item in range(4, 7)]
        await asyncio.sleep(0.01)
        assert len(recorder.batches) == 1
        tasks.append(asyncio.create_task(batcher.submit(7)))
        await recorder.entered.acquire()
        assert recorder.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
        recorder.go.set()
        await asyncio.gather(*tasks)


async def test_singles_never_wait_for_company() -> None:
    """As long as updates come singly each has its batch at once, while there is room in flight."""
    recorder = Recorder()
    async with running(recorder, max_in_flight=3, linger=3600) as batcher:
        tasks = []
        for item in range(3):
            tasks.append(asyncio.create_task(batcher.submit(item)))
            await recorder.entered.acquire()
        assert recorder.batches == [[0], [1], [2]]
        recorder.go.set()
        await asyncio.gather(*tasks)


async def test_who_would_wait_too_long_is_refused_at_once() -> None:
    """Batches that end slowly make the queue shorter than its length alone would have it."""
    now = 0.0
    held = asyncio.Event()
    hold = asyncio.Event()

    async def commit(items: Sequence[int]) -> Sequence[int]:
        nonlocal now
        await asyncio.sleep(0)
        now += 1.0
        if hold.is_set():
            await held.wait()
        return items

    batcher: Batcher[int, int] = Batcher(
        commit, max_in_flight=1, max_batch=4, min_admitted=4, max_expected=2.0, max_wait=1000, clock=lambda: now
    )
    batcher.start()
    await asyncio.gather(*(batcher.submit(item) for item in range(40)))
    hold.set()
    tasks = [asyncio.create_task(batcher.submit(0))]
    await asyncio.sleep(0.01)
    assert not batcher.overloaded
    tasks += [asyncio.create_task(batcher.submit(item)) for item in range(7)]  # eight, of four a second
    await asyncio.sleep(0.01)
    assert batcher.overloaded
    with pytest.raises(Overloaded):
        await batcher.submit(99)
    held.set()
    await asyncio.gather(*tasks)
    assert not batcher.overloaded
    await batcher.close()


async def test_the_queue_is_bounded() -> None:
    """Beyond the bound an update is refused at once."""
    recorder = Recorder()
    async with running(recorder, max_in_flight=1, max_queue=2) as batcher:
        tasks = [asyncio.create_task(batcher.submit(0))]
        await recorder.entered.acquire()
        tasks += [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.submit(3)
        recorder.go.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4]


async def test_who_waited_too_long_is_refused_and_not_committed() -> None:
    """An update whose time is over is not counted behind its client's back."""
    recorder = Recorder()
    now = 0.0
    async with running(recorder, max_in_flight=1, max_wait=5, clock=lambda: now) as batcher:
        first = asyncio.create_task(batcher.submit(0))
        await recorder.entered.acquire()
        late = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        now = 5.1
        recorder.go.set()
        with pytest.raises(Overloaded):
            await late
        assert await first == 0
    assert recorder.batches == [[0]]


async def test_an_error_of_the_batch_reaches_all_of_it() -> None:
    """When the store is away everyone in the batch hears of it, and the next batch is tried anew."""
    calls = 0

    async def commit(items: Sequence[int]) -> Sequence[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        return items

    batcher: Batcher[int, int] = Batcher(commit, max_in_flight=1)
    batcher.start()
    results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert all(isinstance(result, ConnectionError) for result in results)
    assert await batcher.submit(3) == 3
    await batcher.close()


async def test_closing_settles_what_waits() -> None:
    """Nobody is left without an answer when the process ends."""
    recorder = Recorder()
    async with running(recorder) as batcher:
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(20)]
        await recorder.entered.acquire()
    assert await asyncio.gather(*tasks) == [item * 2 for item in range(20)]
