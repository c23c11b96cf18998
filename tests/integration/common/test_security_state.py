"""Revocations and restrictions reach every pod through the key-value bucket."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from podium.common.bus import connect, user_token
from podium.common.problems import Problem
from podium.common.security_state import SecurityState
from podium.common.settings import NatsSettings


async def eventually(condition: Callable[[], bool]) -> None:
    """Return as soon as ``condition`` holds; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(settings: NatsSettings, state: SecurityState) -> AsyncIterator[None]:
    async with await connect(settings, "test") as bus:
        task = asyncio.create_task(state.run(bus))
        try:
            await asyncio.wait_for(state.loaded.wait(), 10)
            yield
        finally:
            task.cancel()


async def test_a_new_pod_knows_what_happened_before_it_started(nats_settings: NatsSettings) -> None:
    """The watch begins with a snapshot of all entries."""
    async with await connect(nats_settings, "writer") as bus:
        bucket = await bus.security_bucket()
        await bucket.put("revoked.s1", msgspec.json.encode({"exp": time.time() + 60}))
        await bucket.put(f"restricted.{user_token('ann: ü')}", msgspec.json.encode({"kind": "ban", "until": None}))
    state = SecurityState()
    async with watching(nats_settings, state):
        assert state.is_revoked("s1")
        assert not state.is_revoked("s2")
        restriction = state.restriction("ann: ü")
        assert restriction is not None
        assert restriction.kind == "ban"


async def test_a_revocation_reaches_every_pod_and_is_told(nats_settings: NatsSettings) -> None:
    """Each watching pod learns of a revocation made while it runs, and calls back."""
    told: list[str] = []
    states = [SecurityState(told.append), SecurityState(told.append)]
    async with watching(nats_settings, states[0]), watching(nats_settings, states[1]):
        async with await connect(nats_settings, "writer") as bus:
            await (await bus.security_bucket()).put("revoked.s9", msgspec.json.encode({"exp": time.time() + 60}))
        await eventually(lambda: all(state.is_revoked("s9") for state in states))
    assert told == ["s9", "s9"]


def test_before_the_first_load_nobody_can_tell() -> None:
    """A token is then neither good nor bad: whoever asks gets a 503 and comes back."""
    with pytest.raises(Problem) as caught:
        SecurityState().is_revoked("s1")
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})


async def test_a_restriction_ends_by_time_or_by_hand(nats_settings: NatsSettings) -> None:
    """``until`` ends it by itself; deleting the entry ends it at once."""
    state = SecurityState()
    async with watching(nats_settings, state), await connect(nats_settings, "writer") as bus:
        bucket = await bus.security_bucket()
        now = time.time()
        await bucket.put(f"restricted.{user_token('u')}", msgspec.json.encode({"kind": "block", "until": now + 60}))
        await eventually(lambda: state.restriction("u") is not None)
        assert state.restriction("u", now=now + 61) is None
        await bucket.delete(f"restricted.{user_token('u')}")
        await eventually(lambda: state.restriction("u") is None)
