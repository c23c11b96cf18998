"""One reconcile at a time for each Scoreboard."""

from __future__ import annotations

import asyncio

import pytest

from podium_operator import workers
from podium_operator.workers import Workers


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses short enough for a test."""
    monkeypatch.setattr(workers, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(workers, "FIRST_PAUSE_SECONDS", 0.001)


async def test_wake_ups_during_a_reconcile_lead_to_one_more() -> None:
    """Ten wake-ups while one runs: it runs once more, never twice at the same time."""
    running, calls = 0, 0
    inside, go, twice = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(_: str, __: str) -> float | None:
        nonlocal running, calls
        running += 1
        calls += 1
        assert running == 1
        inside.set()
        await go.wait()
        running -= 1
        if calls == 2:
            twice.set()
        return None

    pool = Workers(work, resync_seconds=3600)
    pool.wake("ns", "a")
    await inside.wait()
    for _ in range(10):
        pool.wake("ns", "a")
    go.set()
    await asyncio.wait_for(twice.wait(), 5)
    for _ in range(20):
        await asyncio.sleep(0)
    assert calls == 2
    await pool.stop()


async def test_a_failure_is_tried_again() -> None:
    """An exception does not end the task."""
    calls, done = 0, asyncio.Event()

    async def work(_: str, __: str) -> float | None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise RuntimeError("the API server is away")
        done.set()
        return None

    pool = Workers(work, resync_seconds=3600)
    pool.wake("ns", "a")
    await asyncio.wait_for(done.wait(), 5)
    await pool.stop()


async def test_scoreboards_do_not_wait_for_each_other() -> None:
    """One that hangs holds up no other."""
    other = asyncio.Event()

    async def work(_: str, name: str) -> float | None:
        if name == "slow":
            await asyncio.Event().wait()
        other.set()
        return None

    pool = Workers(work, resync_seconds=3600)
    pool.wake("ns", "slow")
    pool.wake("ns", "quick")
    await asyncio.wait_for(other.wait(), 5)
    await pool.stop()
