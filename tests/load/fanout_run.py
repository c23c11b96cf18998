"""One run of a server in the fan-out bench: open connections, let them be idle, publish to all, close."""

import asyncio
import contextlib
import functools
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import nats

from podium.common.bus import TOP_PREFIX
from podium.common.bus import connect as connect_bus
from podium.common.settings import NatsSettings
from podium.scoreboard.domain import Ranking, Snapshot, timestamp
from tests.load import scoreboard
from tests.load.contenders import Running
from tests.load.fanout_client import FanoutClient, running_client
from tests.load.fanout_results import Run
from tests.load.fanout_servers import PIPE, Pipe, Server
from tests.load.machine import own_cpu_seconds, resident_bytes
from tests.support.processes import scratch_directory
from tests.support.stores import Nats, RedisCluster, environment_of

BOARD = "default"
EPOCH = 1
USERS = 10
SEED_SECONDS = 0.2
FIRST_CONNECTIONS = 50
"""Connections that come and go before CPU is measured, so that nothing is done for the first time."""

SETTLE_SECONDS = 1.0
WARM_UP_SECONDS = 2.0
LAST_SECONDS = 60.0
"""How long a server may take until everyone has the last snapshot."""

Publish = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class Plan:
    """How to measure: ``rate`` snapshots a second for ``seconds``; ``opened`` connections a second."""

    connections: int
    rate: float
    seconds: float
    idle_seconds: float
    opened_per_second: float
    tick_ms: float | None = None


class Place:
    """NATS and Redis, and the servers on them."""

    def __init__(self, redis: RedisCluster, nats: NatsSettings, directory: Path) -> None:
        self._nats = nats
        self._directory = directory
        self._numbers = itertools.count(1)
        keys = scoreboard.Keys.generate().environment()
        self._environment = {
            **scoreboard.environment(),
            **keys,
            **environment_of(redis.settings()),
            **environment_of(nats),
        }

    @contextlib.asynccontextmanager
    async def way_to(self, server: Server) -> AsyncIterator[tuple[Publish, dict[str, str]]]:
        """How payloads come to a server, and the variables that tell it."""
        if server.by_pipe:
            path = self._directory / f"payloads-{next(self._numbers)}"
            pipe = Pipe(path)
            try:
                yield functools.partial(_write, pipe), {PIPE: str(path)}
            finally:
                pipe.close()
        else:
            password = self._nats.password.get_secret_value()
            client = await nats.connect(self._nats.url, user=self._nats.user, password=password)
            try:
                yield functools.partial(client.publish, TOP_PREFIX + BOARD), {}
            finally:
                await client.close()

    async def measure(self, server: Server, plan: Plan) -> Run:
        """One run of a new process of the server."""
        async with self.way_to(server) as (publish, variables):
            environment = self._environment | variables
            if plan.tick_ms is not None:
                environment["PODIUM_WS_TICK_MS"] = str(plan.tick_ms)
            running = Running(server.contender, environment, self._directory)
            versions = itertools.count(1)
            try:
                await _started(running, publish, versions)
                async with running_client() as client:
                    return await _phases(server, plan, running, client, publish, versions)
            finally:
                await asyncio.to_thread(running.stop)


@contextlib.asynccontextmanager
async def running_place() -> AsyncIterator[Place]:
    """A place whose stores run inside the block, as durable as those of the other benches."""
    with scratch_directory() as directory:
        overrides = scoreboard.durable()
        redis, server = RedisCluster(directory, overrides), Nats(directory, overrides)
        try:
            redis.start()
            server.process.start()
            await asyncio.to_thread(redis.finish_start)
            await asyncio.to_thread(server.process.wait_ready)
            async with await connect_bus(server.settings(), "bench") as bus:
                await bus.ensure_streams()
            yield Place(redis, server.settings(), directory)
        finally:
            server.process.kill()
            for process in redis.processes:
                process.kill()


async def _write(pipe: Pipe, line: bytes) -> None:
    pipe.write(line)


async def _started(running: Running, publish: Publish, versions: Iterator[int]) -> None:
    """Start a server, with a first snapshot again and again: Podium is not ready without one."""

    async def seed() -> None:
        while True:
            await publish(payload(next(versions)))
            await asyncio.sleep(SEED_SECONDS)

    seeding = asyncio.create_task(seed())
    try:
        await asyncio.to_thread(running.start)
    finally:
        seeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await seeding
    await asyncio.sleep(SETTLE_SECONDS)


async def _phases(
    server: Server, plan: Plan, running: Running, client: FanoutClient, publish: Publish, versions: Iterator[int]
) -> Run:
    (pid,), (address,) = running.pids, running.addresses
    cpu = functools.partial(own_cpu_seconds, pid)
    target = server.target(address)
    memory_before = resident_bytes([pid])
    await client.connect(target, FIRST_CONNECTIONS, plan.opened_per_second)
    await client.disconnect()
    await asyncio.sleep(SETTLE_SECONDS)
    await client.begin()

    before = cpu()
    opened = await client.connect(target, plan.connections, plan.opened_per_second)
    await asyncio.sleep(SETTLE_SECONDS)
    connect_cpu = cpu() - before

    before = cpu()
    await asyncio.sleep(plan.idle_seconds)
    idle_cpu = cpu() - before
    memory_idle = resident_bytes([pid])

    _, last = await _published(publish, versions, plan.rate, WARM_UP_SECONDS)
    earlier = await client.end((EPOCH, last), LAST_SECONDS)

    await client.begin()
    before = cpu()
    count, last = await _published(publish, versions, plan.rate, plan.seconds)
    report = await client.end((EPOCH, last), LAST_SECONDS)
    measured_cpu = cpu() - before
    flaws = Counter(opened.errors) + Counter(earlier.faults) + Counter(report.faults)
    if report.rankings != msgspec.to_builtins(rankings(last)):
        flaws["the last snapshot is not what was published"] += 1
    await client.disconnect()
    return Run(
        connections=plan.connections,
        connect_cpu=connect_cpu,
        connect_seconds=opened.seconds,
        idle_cpu=idle_cpu,
        idle_seconds=plan.idle_seconds,
        memory_before=memory_before,
        memory_idle=memory_idle,
        beats=earlier.heartbeats + earlier.pings,
        published=count,
        cpu=measured_cpu,
        report=report,
        flaws=flaws,
    )


async def _published(publish: Publish, versions: Iterator[int], rate: float, seconds: float) -> tuple[int, int]:
    """Publish snapshots at a rate that no delay changes; how many, and the last version."""
    begin, count, version = time.perf_counter(), max(1, round(rate * seconds)), 0
    for number in range(count):
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        version = next(versions)
        await publish(payload(version))
    return count, version


def rankings(version: int) -> list[Ranking]:
    """A top of ten users that changes with each version."""
    return [
        Ranking(f"u-{(version + rank) % 10_000:04d}", f"P{rank:02d}", 50_000 + version - 10 * rank, rank)
        for rank in range(1, USERS + 1)
    ]


def payload(version: int) -> bytes:
    """The message of a projector, of some 700 bytes."""
    now = timestamp(datetime.now(UTC))
    return msgspec.json.encode(Snapshot(BOARD, EPOCH, version, tuple(rankings(version)), now))
