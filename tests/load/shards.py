"""``python -m tests.load.shards``: what a shard of a board costs on a real Redis, and what a very large board needs.

Measured here: Redis's memory for each user at several sizes, its CPU time for each update of a full shard (scripts of
the projector, 256 updates a call), the replica's for the same, and the time of a page and of a rank over S shards.
Extrapolated, by plain arithmetic: shards and masters for a number of users and updates a second. The CPU time of a
sorted set grows with the logarithm of its size, so costs are fitted as a + b·log2(n).
"""

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from podium.common.redis import make_redis
from podium.scoreboard.domain import Row, row_of
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.layout import places, shard_of
from podium.scoreboard.store import RankingStore
from tests.load.machine import cpu_seconds
from tests.load.table import print_table
from tests.support.apps import ROOT
from tests.support.processes import scratch_directory
from tests.support.stores import SHARDS as MASTERS
from tests.support.stores import RedisCluster

BOARD = "board"
START = datetime(2026, 1, 1, tzinfo=UTC)
LOAD_ROWS = 512
UPDATES = 20_000
READS = 200
CORE_SHARE = 0.5
"""How much of its one thread a master should use at most, so that a burst or a failover finds room."""

MASTER_MEMORY_GIB = 16.0
"""Memory of one master's machine; a rebuild holds two epochs, and a fork for a replica copies what changes."""

MEMORY_SHARE = 0.3
"""How much of it one epoch may fill, for that reason."""


@dataclass(frozen=True)
class Shard:
    """Costs of one shard with so many users. Bytes; CPU µs of Redis (all threads) for each update."""

    users: int
    bytesPerUser: float  # noqa: N815 - names of the JSON document
    masterMicros: float  # noqa: N815
    replicaMicros: float  # noqa: N815


@dataclass(frozen=True)
class Reads:
    """Milliseconds of one read by one client, median, of a board of so many shards."""

    shards: int
    page10: float
    page1000: float
    rank: float


async def fill(store: RankingStore, epoch: int, users: int, shards: int) -> None:
    """A ranking of ``users`` as a rebuild makes it."""
    dice = random.Random(users)
    await store.begin(BOARD, epoch, shards=shards)
    parts: list[list[Row]] = [[] for _ in range(shards)]
    for number in range(users):
        user = f"user-{number}"
        reached = 1_767_225_600_000_000 + dice.randrange(10**12)
        parts[shard_of(user, shards)].append(row_of(user, f"Player {number}", dice.randrange(10**6), 1, reached, False))
    writes = []
    for place, rows in zip(places(BOARD, shards), parts, strict=True):
        rows.sort(key=lambda row: row.score)
        count = 0
        for start in range(0, len(rows), LOAD_ROWS):
            count = await store.load(place, "fill", epoch, rows[start : start + LOAD_ROWS], "2026")
        writes.append(count)
    await store.swap(BOARD, 10, epoch, "fill", writes, "2026")
    await store.settle(BOARD, 10, await store.state(BOARD))


async def measure_shard(cluster: RedisCluster, store: RankingStore, users: int) -> Shard:
    """Memory and update cost of a single shard of ``users``."""
    cluster.flush()
    empty = sum(node.info("memory")["used_memory"] for node in cluster.primaries())
    await fill(store, 1, users, 1)
    full = sum(node.info("memory")["used_memory"] for node in cluster.primaries())
    dice = random.Random(1)
    updates = [
        ScoreUpdate(
            BOARD, f"user-{dice.randrange(users)}", "Player", dice.randrange(10**6), version, START + step(version)
        )
        for version in range(2, UPDATES + 2)
    ]
    pids = [process.pid for process in cluster.processes]
    before = [cpu_seconds([pid]) for pid in pids]
    for start in range(0, UPDATES, store.UPDATES_PER_CALL):
        await store.apply(BOARD, 10, "load", updates[start : start + store.UPDATES_PER_CALL])
    await asyncio.sleep(0.3)  # the replica is in step
    spent = [(cpu_seconds([pid]) - was) / UPDATES * 1e6 for pid, was in zip(pids, before, strict=True)]
    return Shard(
        users, round((full - empty) / users, 1), round(max(spent[:MASTERS]), 1), round(max(spent[MASTERS:]), 1)
    )


def step(number: int) -> timedelta:
    """Times that differ."""
    return timedelta(days=30, microseconds=number)


async def measure_reads(cluster: RedisCluster, store: RankingStore, users: int, shards: int) -> Reads:
    """Reads of a board of ``users`` over ``shards``."""
    cluster.flush()
    await fill(store, 1, users, shards)
    dice = random.Random(2)
    return Reads(
        shards,
        await median(lambda: store.page(BOARD, 10)),
        await median(lambda: store.page(BOARD, 1000)),
        await median(lambda: store.standing(BOARD, f"user-{dice.randrange(users)}", 5)),
    )


async def median(read: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(READS):
        begun = time.perf_counter()
        await read()
        times.append(time.perf_counter() - begun)
    return round(sorted(times)[READS // 2] * 1000, 2)


def fit(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Least squares of ``y = a + b·log2(x)``; b is not below 0."""
    logs = [math.log2(x) for x, _ in points]
    mean_x, mean_y = sum(logs) / len(logs), sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x in logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, (_, y) in zip(logs, points, strict=True)) / spread if spread else 0
    slope = max(0.0, slope)
    return mean_y - slope * mean_x, slope


def plan(measured: Sequence[Shard], users: int, updates: int) -> list[dict[str, Any]]:
    """What boards of 1, 2, 4 … 256 shards would ask of each shard; every row but the costs is extrapolated."""
    a, b = fit([(one.users, one.masterMicros) for one in measured])
    per_user = measured[-1].bytesPerUser  # the largest: a Redis with nothing in it is no matter there
    rows = []
    for shards in (1, 4, 8, 16, 32, 64, 128, 256):
        micros = a + b * math.log2(users / shards)
        memory = users / shards * per_user / 2**30
        load = updates / shards * micros / 1e6
        rows.append(
            {
                "shards": shards,
                "usersPerShard": users // shards,
                "gibPerShard": round(memory, 2),
                "microsPerUpdate": round(micros, 1),
                "coresPerShard": round(load, 2),
                "fits": load <= CORE_SHARE and memory <= MASTER_MEMORY_GIB * MEMORY_SHARE,
            }
        )
    return rows


async def measure(sizes: Sequence[int], spread: Sequence[int], read_users: int) -> tuple[list[Shard], list[Reads]]:
    """All that is measured."""
    with scratch_directory() as directory:
        cluster = RedisCluster(directory)
        cluster.start()
        try:
            cluster.finish_start()
            client = make_redis(cluster.settings(), max_connections=512)
            costs = [await measure_shard(cluster, RankingStore(client), users) for users in sizes]
            reads = [await measure_reads(cluster, RankingStore(client), read_users, shards) for shards in spread]
            await client.aclose()
            return costs, reads
        finally:
            for process in cluster.processes:
                process.kill()


def main() -> int:
    """Measure, extrapolate, print, write build/bench/shards.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--spread", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--read-users", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=100_000_000)
    parser.add_argument("--updates", type=int, default=100_000, help="updates a second")
    options = parser.parse_args()
    costs, reads = asyncio.run(measure(options.sizes, options.spread, options.read_users))
    rows = plan(costs, options.users, options.updates)
    print("Measured: one shard")
    print_table([asdict(one) for one in costs])
    print(f"Measured: reads of a board of {options.read_users} users, milliseconds")
    print_table([asdict(one) for one in reads])
    print(f"Extrapolated: {options.users} users, {options.updates} updates/s")
    print_table(rows)
    output = ROOT / "build" / "bench" / "shards.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    document = {"shards": [asdict(one) for one in costs], "reads": [asdict(one) for one in reads], "plan": rows}
    output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
