"""What the Redis client raises while nodes come and go: an outage, and nothing else."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from redis.asyncio.cluster import RedisCluster as Client

from podium.common.redis import OUTAGE, make_redis
from tests.support.processes import scratch_directory
from tests.support.stores import SLOTS, RedisCluster

STEPS = 400
"""Rounds of the event loop that a command with a new connection has ended in, with some to spare."""

Run = Callable[[Coroutine[Any, Any, list[Exception]]], list[Exception]]


@pytest.fixture
def nodes() -> Iterator[RedisCluster]:
    """Nodes that serve no slot and know no other node."""
    with scratch_directory() as directory:
        cluster = RedisCluster(directory)
        cluster.start()
        for process in cluster.processes:
            process.wait_ready()
        yield cluster
        for process in cluster.processes:
            process.kill()


async def _set(client: Client, key: str = "key") -> Exception | None:
    try:
        await client.set(key, "value")
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("slots", [0, 1, SLOTS - 1])
async def test_a_slot_that_no_node_serves_yet_is_an_outage(nodes: RedisCluster, slots: int) -> None:
    """However much of a cluster has been formed; and when all of it is there the same client goes on."""
    node = nodes.node(0)
    if slots:
        node.execute_command("CLUSTER ADDSLOTSRANGE", 0, slots - 1)
    client = make_redis(nodes.settings())
    for _ in range(3):
        assert isinstance(await _set(client), OUTAGE)
    node.execute_command("CLUSTER ADDSLOTSRANGE", slots, SLOTS - 1)
    while (error := await _set(client)) is not None:
        assert isinstance(error, OUTAGE)
    await client.aclose()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_command_whose_connection_another_one_closed_meets_an_outage(nodes: RedisCluster, run: Run) -> None:
    """The client closes all its connections when a node says that the cluster is down: at any step of a command."""
    nodes.node(0).execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)

    async def close_at_every_step() -> list[Exception]:
        client = make_redis(nodes.settings(), retries=0)
        errors = []
        for steps in range(STEPS):
            while await _set(client) is not None:
                pass
            await client.nodes_manager.aclose()
            command = asyncio.create_task(_set(client))
            for _ in range(steps):
                await asyncio.sleep(0)
            await client.nodes_manager.aclose()
            if (error := await command) is not None:
                errors.append(error)
        await client.aclose()
        return errors

    errors = run(close_at_every_step())
    assert errors
    assert not [error for error in errors if not isinstance(error, OUTAGE)]
