"""Loops that were told to end, but did not hear it."""

import asyncio

import pytest

from podium.common.loops import heed_cancellation


async def test_a_cancellation_that_was_kept_is_heeded() -> None:
    """The loop ends in its next round."""
    rounds = 0

    async def loop() -> None:
        nonlocal rounds
        while True:
            heed_cancellation()
            rounds += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue  # as asyncio.wait_for does when the result is there as well

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rounds == 1


async def test_nothing_happens_otherwise() -> None:
    """Neither before a cancellation nor after one that a time-out has taken back."""
    heed_cancellation()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    heed_cancellation()
