"""A killed pod of every kind comes back, and nothing that was acknowledged is lost or counted twice."""

import asyncio
import json

import pytest

from tests.e2e.ledger import Ledger
from tests.e2e.play import raise_someone_in_the_top
from tests.support.client import Client
from tests.support.instance import Instance, Object
from tests.support.watcher import watch

PLAYERS = 20
PLAY_SECONDS = 12.0
"""How long updates go on around a kill."""

SETTLE_SECONDS = 120.0
"""How long the view may need until it shows all that was acknowledged."""


def _victim(instance: Instance, kind: str) -> Object:
    """The pod to kill: the leader where there is one."""
    component, _, role = kind.partition(":")
    pods = instance.pods(component)
    if role:
        pods = [pod for pod in pods if pod["metadata"]["labels"].get("role") in {role, "primary"}] or pods
    return pods[0]


def _force_delete(instance: Instance, *pods: Object) -> None:
    names = [pod["metadata"]["name"] for pod in pods]
    instance.kubectl("delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")


KINDS = (
    *("scores", "scoreboard", "projector", "auth", "analytics"),
    *("gateway", "ratelimit", "redis", "nats", "postgres:master"),
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_pod_loses_nothing(client: Client, instance: Instance, kind: str) -> None:
    """Updates go on while a pod is killed without notice; afterwards the board shows each exactly once."""
    await asyncio.to_thread(instance.wait_settled)
    victim = _victim(instance, kind)
    ledger = await Ledger.open(client, PLAYERS)

    async def kill() -> None:
        await asyncio.sleep(PLAY_SECONDS / 4)
        await asyncio.to_thread(_force_delete, instance, victim)

    await asyncio.gather(ledger.play(PLAY_SECONDS), kill())
    await ledger.settle(SETTLE_SECONDS)
    await asyncio.to_thread(instance.wait_settled)
    uids = {pod["metadata"]["uid"] for pod in instance.pods(kind.partition(":")[0])}
    assert victim["metadata"]["uid"] not in uids


@pytest.mark.timeout(600)
async def test_redis_whole_again_after_all_its_pods_were_deleted(client: Client, instance: Instance) -> None:
    """Every Redis pod gone at once: updates go on, and the view rebuilds itself to exactly what was acknowledged."""
    await asyncio.to_thread(instance.wait_settled)
    ledger = await Ledger.open(client, PLAYERS)

    async def kill() -> None:
        await asyncio.sleep(PLAY_SECONDS / 4)
        await asyncio.to_thread(lambda: _force_delete(instance, *instance.pods("redis")))

    await asyncio.gather(ledger.play(PLAY_SECONDS), kill())
    await ledger.settle(2 * SETTLE_SECONDS)
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


@pytest.mark.timeout(600)
async def test_all_pods_agree_after_the_faults(client: Client, instance: Instance) -> None:
    """When all is quiet, every scoreboard pod shows the same top."""
    await asyncio.to_thread(instance.wait_settled)
    user_id, score = await raise_someone_in_the_top(client)
    tops = []
    for pod in instance.pods("scoreboard"):
        with instance.port_forward(f"pod/{pod['metadata']['name']}") as port:
            async with watch(f"ws://127.0.0.1:{port}/ws/scoreboard") as watcher:
                tops.append(await watcher.score_of(user_id, score))
    assert len({json.dumps(top, sort_keys=True) for top in tops}) == 1
