"""Forms the Redis Cluster, keeps it whole, and says how it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from podium_operator.spec import Redis as RedisSpec
from podium_operator.stores import redis_plan
from podium_operator.stores.redis_plan import (
    Action,
    AddSlots,
    Announce,
    Forget,
    Meet,
    Node,
    Replicate,
    TakeOver,
)
from podium_operator.stores.status import StoreStatus

PORT = 6379
"""TCP port of every node."""
ANSWER_SECONDS = 1.5
"""Seconds a node may take to answer one command."""
BUDGET_SECONDS = 4.0
"""Seconds that one call may go on healing; the next reconcile continues."""
ROUND_SECONDS = 0.2
"""Seconds between two looks while nodes tell each other the news."""


async def ensure_redis_cluster(
    *, name: str, namespace: str, spec: RedisSpec, password: str, pod_addresses: Mapping[str, str], port: int = PORT
) -> StoreStatus:
    """Make one whole cluster of the pods, as far as that can be done now, and return how it is.

    `pod_addresses`: address of the Service of each pod by pod name, for all pods, in the order of their ordinals.
    Idempotent; nodes that do not answer are part of the status, never an exception.
    """
    if len(pod_addresses) != spec.shards * (1 + spec.replicas_per_shard):
        return StoreStatus(False, f"{name}: the Services of the Redis pods are not all there")
    clients = {pod: _client(address, port, password) for pod, address in pod_addresses.items()}
    try:
        return await _heal(clients, pod_addresses, spec, port)
    finally:
        await asyncio.gather(*(client.aclose() for client in clients.values()), return_exceptions=True)


async def _heal(
    clients: Mapping[str, Redis], addresses: Mapping[str, str], wanted: RedisSpec, port: int
) -> StoreStatus:
    deadline = time.monotonic() + BUDGET_SECONDS
    while True:
        nodes = await _look(clients)
        wrong = redis_plan.shortcomings(nodes, addresses, wanted.shards)
        actions = redis_plan.plan(nodes, addresses, wanted.shards)
        if not wrong and not actions:
            return StoreStatus(True, f"{wanted.shards} shards, {len(nodes)} nodes", serving=True)
        refused = [error for error in [await _do(clients, action, port) for action in actions] if error]
        # Without a node there is nothing to wait for; without an action only gossip, which a joining node needs.
        if time.monotonic() > deadline or len(nodes) < len(addresses):
            serving = bool(nodes) and not any("slots" in reason or "down" in reason for reason in wrong)
            return StoreStatus(False, "; ".join([*wrong, *refused[:1]]) or "healing", serving=serving)
        await asyncio.sleep(ROUND_SECONDS)


def _client(address: str, port: int, password: str) -> Redis:
    return Redis(
        host=address,
        port=port,
        password=password,
        decode_responses=True,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        single_connection_client=False,
        retry=Retry(NoBackoff(), 0),
    )


async def _look(clients: Mapping[str, Redis]) -> list[Node]:
    """The nodes that answer, in the order of their ordinals."""
    seen = await asyncio.gather(*(_node(pod, client) for pod, client in clients.items()), return_exceptions=True)
    nodes = []
    for result in seen:
        if isinstance(result, Node):
            nodes.append(result)
        elif not isinstance(result, (RedisError, OSError, TimeoutError)):
            raise result
    return nodes


async def _node(pod: str, client: Redis) -> Node:
    node_id = str(await client.execute_command("CLUSTER", "MYID"))
    peers = redis_plan.parse_nodes(str(await client.execute_command("CLUSTER", "NODES")))
    state = str(await client.execute_command("CLUSTER", "INFO"))
    replication = await client.info("replication")
    announced = await client.config_get("cluster-announce-ip")
    return Node(
        pod=pod,
        node_id=node_id,
        announced=str(announced["cluster-announce-ip"]),
        peers=peers,
        state_ok="cluster_state:ok" in state,
        link_up=replication["role"] == "master" or replication.get("master_link_status") == "up",
        copies=str(replication.get("master_host", "")),
    )


async def _ask(client: Redis, *command: str | int) -> str:
    # Commands as separate words: the library parses "CLUSTER NODES" as one word into a form that loses fields.
    return str(await client.execute_command(*command))


async def _do(clients: Mapping[str, Redis], action: Action, port: int) -> str | None:
    """Do it; a refusal is returned as a sentence, because the next look shows what is to be done instead."""
    try:
        if isinstance(action, (AddSlots, Replicate)):
            # From now on it may be copied (builders.redis says why a new node may not).
            await _ask(clients[action.pod], "ACL", "SETUSER", "default", "+psync", "+sync")
        await _ask(clients[action.pod], *_command(action, port))
    except (RedisError, OSError, TimeoutError) as refused:
        return f"{action.pod} refused {type(action).__name__}: {refused}"
    return None


def _command(action: Action, port: int) -> tuple[str | int, ...]:
    match action:
        case Announce(address=address):
            return ("CONFIG", "SET", "cluster-announce-ip", address)
        case Meet(address=address):
            return ("CLUSTER", "MEET", address, port)
        case AddSlots(ranges=ranges):
            return ("CLUSTER", "ADDSLOTSRANGE", *(slot for bounds in ranges for slot in bounds))
        case Replicate(primary_id=primary_id):
            return ("CLUSTER", "REPLICATE", primary_id)
        case TakeOver():
            return ("CLUSTER", "FAILOVER", "TAKEOVER")
        case Forget(node_id=node_id):
            return ("CLUSTER", "FORGET", node_id)
