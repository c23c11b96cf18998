"""Faults under load: what was acknowledged is there once, everywhere, and every view ends equal to PostgreSQL.

The long form, with recovery times, is ``make chaos``.
"""

import asyncio
import json
import secrets
from random import Random

import pytest

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.players import Crowd, Pace
from tests.chaos.trial import Arena
from tests.e2e.play import raise_someone_in_the_top
from tests.support.client import Client
from tests.support.instance import Instance
from tests.support.watcher import watch

PACE = Pace(players=30, interval=1.0, updates=9)
"""Nine updates a player: one below the limit of ten a minute, so that none is refused."""

SHORT = [fault for fault in FAULTS if fault.short]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", SHORT, ids=[fault.name for fault in SHORT])
async def test_a_fault_loses_nothing_and_counts_nothing_twice(client: Client, instance: Instance, fault: Fault) -> None:
    """Updates go on meanwhile; log, scores, Redis, pages and every watcher agree with what clients were told."""
    await asyncio.to_thread(instance.wait_settled)
    crowd = Crowd(client, PACE, f"fault-{secrets.token_hex(4)}")
    async with Arena(instance, client, crowd) as arena:
        acknowledged, verdict = await arena.skirmish(fault, Random())
    assert not verdict.findings(), f"{verdict.findings()}; clients met {crowd.troubles}"
    assert not crowd.faults_of_form
    assert acknowledged == PACE.players * (PACE.updates or 0)
    await asyncio.to_thread(instance.wait_settled)


@pytest.mark.timeout(600)
async def test_a_watcher_is_told_when_its_pod_goes_away(client: Client, instance: Instance) -> None:
    """An orderly end closes with 1001 and says when to come back; another pod serves the client."""
    await asyncio.to_thread(instance.wait_settled)
    pod = instance.pods("scoreboard")[0]["metadata"]["name"]
    with instance.port_forward(f"pod/{pod}") as port:
        async with watch(f"ws://127.0.0.1:{port}/ws/scoreboard") as watcher:
            await watcher.message("snapshot")
            await asyncio.to_thread(instance.kubectl, "delete", "pod", pod, "--wait=false")
            assert await watcher.closed(seconds=60) == 1001
            assert json.loads(watcher.connection.close_reason or "")["retryAfterMs"] >= 0
    async with watch(instance.ws_url) as again:
        user_id, score = await raise_someone_in_the_top(client)
        await again.score_of(user_id, score)
    await asyncio.to_thread(instance.wait_settled)
