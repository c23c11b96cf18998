"""The operator forms a Redis Cluster of empty nodes and makes it whole after any loss."""

import asyncio
import contextlib
import functools
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_client

from podium_operator.spec import Redis
from podium_operator.stores.redis import ensure_redis_cluster
from podium_operator.stores.status import StoreStatus
from tests.support.processes import Process, find_binary, free_ports, scratch_directory

PASSWORD = "s3cret-for-tests"
SPEC = Redis(shards=3, replicas_per_shard=1)
WHOLE_SECONDS = 30.0
"""Seconds until the cluster must be whole; generous, because machines of tests are busy."""


class Nodes:
    """Six nodes as pods are: each with an address of its own, all with one port."""

    def __init__(self, directory: Path) -> None:
        # Port + 10000 is the bus, as in pods.
        self.port = next(port for port in iter(lambda: free_ports(1)[0], 0) if port < 55000)
        self.addresses = {f"sb-redis-{i}": f"127.0.77.{i + 1}" for i in range(6)}
        self.homes = {pod: directory / pod for pod in self.addresses}
        self.configs: dict[str, Path] = {}
        self.processes: dict[str, Process] = {}
        for pod, address in self.addresses.items():
            self.configs[pod] = directory / f"{pod}.conf"
            self.processes[pod] = Process(
                [find_binary("redis-server"), str(self.configs[pod])],
                directory / f"{pod}.log",
                functools.partial(self._answers, address),
            )

    def start(self, *pods: str) -> None:
        """Start these nodes, or all."""
        for pod in pods or self.processes:
            self.homes[pod].mkdir(exist_ok=True)
            self._configure(pod)
            self.processes[pod].start()
        for pod in pods or self.processes:
            self.processes[pod].wait_ready()

    def kill(self, *pods: str, volume: bool = False) -> None:
        """Kill these nodes, or all, and with `volume` their data too."""
        for pod in pods or self.processes:
            self.processes[pod].kill()
            if volume:
                shutil.rmtree(self.homes[pod])

    def cluster(self) -> "redis_client.RedisCluster":
        """A client of the whole cluster."""
        return redis_client.RedisCluster(
            host=self.addresses["sb-redis-0"], port=self.port, password=PASSWORD, decode_responses=True
        )

    def node(self, pod: str) -> "redis_client.Redis":
        """A client of one node."""
        return redis_client.Redis(
            host=self.addresses[pod], port=self.port, password=PASSWORD, decode_responses=True, socket_timeout=5
        )

    def primaries(self) -> list[str]:
        """Names of the nodes that are primaries."""
        return [pod for pod in self.addresses if self.node(pod).info("replication")["role"] == "master"]

    async def heal(self) -> StoreStatus:
        """Reconcile once."""
        return await ensure_redis_cluster(
            name="sb", namespace="test", spec=SPEC, password=PASSWORD, pod_addresses=self.addresses, port=self.port
        )

    async def until_whole(self) -> None:
        """Reconcile until the cluster is whole."""
        async with asyncio.timeout(WHOLE_SECONDS):
            while not (await self.heal()).ok:
                pass

    async def until_primaries(self, *expected: str) -> None:
        """Reconcile until these are the primaries and every node knows the six nodes and no other."""
        async with asyncio.timeout(WHOLE_SECONDS):
            while tuple(self.primaries()) != expected or {self._known(pod) for pod in self.addresses} != {6}:
                await self.heal()

    def _known(self, pod: str) -> int:
        return len(self.node(pod).execute_command("CLUSTER", "NODES").splitlines())

    def _configure(self, pod: str) -> None:
        """What the pod's start script writes."""
        nodes = self.homes[pod] / "nodes.conf"
        is_new = not nodes.exists() or len(nodes.read_text().splitlines()) < 3
        address = self.addresses[pod]
        lines = [
            f"port {self.port}", f"bind {address}", "cluster-enabled yes",
            "cluster-node-timeout 1500", "cluster-replica-validity-factor 0", "cluster-require-full-coverage no",
            "cluster-allow-replica-migration no", f"cluster-announce-ip {address}", f"requirepass {PASSWORD}",
            f"masterauth {PASSWORD}", f"dir {self.homes[pod]}", "appendonly yes", 'save ""',
            "repl-diskless-sync-delay 0",
        ]  # fmt: skip
        if is_new:
            lines.append(f"user default on ~* &* +@all -psync -sync >{PASSWORD}")
        self.configs[pod].write_text("\n".join(lines) + "\n")

    def _answers(self, address: str) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((address, self.port), timeout=1):
            return True
        return False


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Six empty nodes."""
    with scratch_directory() as directory:
        made = Nodes(directory)
        made.start()
        yield made
        made.kill()


def is_on_disk(node: "redis_client.Redis") -> bool:
    """Whether a node's append-only file holds all it has: a new replica first rewrites it in the background."""
    seen = node.info("persistence")
    return not (seen["aof_rewrite_in_progress"] or seen["aof_rewrite_scheduled"] or seen["aof_buffer_length"])


async def write(nodes: Nodes) -> None:
    """Write a hundred keys that lie on all shards, and wait until they are on every node's disk."""
    client = nodes.cluster()
    for number in range(100):
        client.set(f"key-{number}", number)
    for pod in nodes.primaries():
        nodes.node(pod).execute_command("WAIT", 1, 5000)
    client.close()
    async with asyncio.timeout(WHOLE_SECONDS):
        while not all(is_on_disk(nodes.node(pod)) for pod in nodes.addresses):
            await asyncio.sleep(0.05)


def missing(nodes: Nodes) -> int:
    """How many of them are gone."""
    client = nodes.cluster()
    gone = sum(client.get(f"key-{number}") is None for number in range(100))
    client.close()
    return gone


async def test_empty_nodes_become_one_cluster(nodes: Nodes) -> None:
    """Six empty nodes become three shards of a primary and a replica on neighbouring ordinals, and stay as they are."""
    await nodes.until_whole()
    assert nodes.primaries() == ["sb-redis-0", "sb-redis-2", "sb-redis-4"]
    before = nodes.node("sb-redis-0").execute_command("CLUSTER SLOTS")
    assert (await nodes.heal()).ok
    assert nodes.node("sb-redis-0").execute_command("CLUSTER SLOTS") == before


async def test_nothing_is_made_of_some_nodes_only(nodes: Nodes) -> None:
    """While a node is missing no slots are given away: it may be the one that holds the data."""
    nodes.kill("sb-redis-3")
    status = await nodes.heal()
    assert not status.ok
    assert "sb-redis-3" in status.message
    assert nodes.node("sb-redis-0").execute_command("CLUSTER SLOTS") == []


async def test_whole_again_after_all_nodes_died(nodes: Nodes) -> None:
    """All nodes killed at once come back with their data."""
    await nodes.until_whole()
    await write(nodes)
    nodes.kill()
    nodes.start()
    await nodes.until_whole()
    assert missing(nodes) == 0


async def test_a_replica_that_remembers_a_passing_address_copies_from_the_right_one(nodes: Nodes) -> None:
    """Killed while its primary was known by its pod's address, a replica comes back and finds its primary."""
    await nodes.until_whole()
    await write(nodes)
    primary, replica = nodes.processes["sb-redis-0"], nodes.node("sb-redis-1")
    primary_id = nodes.node("sb-redis-0").execute_command("CLUSTER MYID")
    nodes.kill("sb-redis-1")
    conf = nodes.homes["sb-redis-1"] / "nodes.conf"
    lines = [line.split(" ") for line in conf.read_text().splitlines()]
    for line in lines:
        if line[0] == primary_id:
            line[1], line[2] = line[1].replace(nodes.addresses["sb-redis-0"], "127.0.78.1"), "master,fail?"
    conf.write_text("".join(" ".join(line) + "\n" for line in lines))
    primary.pause()  # so that another node is the first to tell of it
    nodes.start("sb-redis-1")
    while "127.0.78.1" in str(replica.execute_command("CLUSTER NODES")):
        pass
    primary.resume()
    await nodes.until_whole()
    assert nodes.node("sb-redis-1").info("replication")["master_host"] == nodes.addresses["sb-redis-0"]
    assert missing(nodes) == 0


async def test_an_empty_node_gets_its_role_back(nodes: Nodes) -> None:
    """A primary that lost its volume comes back as a replica of its heir, and the dead id is forgotten."""
    await nodes.until_whole()
    await write(nodes)
    nodes.kill("sb-redis-2", volume=True)
    nodes.start("sb-redis-2")
    await nodes.until_whole()
    assert missing(nodes) == 0
    # Which nodes there are is told from node to node, so that it may change once more after all was well.
    await nodes.until_primaries("sb-redis-0", "sb-redis-3", "sb-redis-4")


async def test_two_primaries_that_lost_their_volumes(nodes: Nodes) -> None:
    """Where no majority is left to vote, the operator makes the replicas primaries."""
    await nodes.until_whole()
    await write(nodes)
    nodes.kill("sb-redis-0", "sb-redis-2", volume=True)
    nodes.start("sb-redis-0", "sb-redis-2")
    await nodes.until_whole()
    assert missing(nodes) == 0


async def test_a_shard_that_lost_everything_serves_again_empty(nodes: Nodes) -> None:
    """Slots whose primary and replica are both lost go to a new empty node; the other shards keep their data."""
    await nodes.until_whole()
    await write(nodes)
    nodes.kill("sb-redis-4", "sb-redis-5", volume=True)
    nodes.start("sb-redis-4", "sb-redis-5")
    await nodes.until_whole()
    assert 0 < missing(nodes) < 100


async def test_a_new_service_address_is_announced(nodes: Nodes) -> None:
    """When a pod's Service was made again with another address, the pod announces the new one."""
    await nodes.until_whole()
    nodes.node("sb-redis-1").config_set("cluster-announce-ip", "127.0.88.1")
    await nodes.until_whole()
    assert nodes.node("sb-redis-1").config_get("cluster-announce-ip") == {
        "cluster-announce-ip": nodes.addresses["sb-redis-1"]
    }
