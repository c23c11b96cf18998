"""``python -m tests.load.rebuild``: how long a wiped Redis takes until it has a board's ranking again, under load.

Real stores on this machine: PostgreSQL with a streaming read replica, a Redis Cluster with replicas, NATS, one
projector as its own process. A million users are made by ``generate_series``; updates flow all the time. Redis is
emptied, and the time until a new epoch is current is measured, with the CPU time of each part and the projector's peak
memory. Then the load stops, and Redis is compared with SQL row by row.
"""

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
import msgspec
import psycopg
import redis

from podium.common.bus import SCORE_UPDATED, Bus, connect
from podium.common.redis import make_redis
from podium.scoreboard.domain import timestamp
from podium.scoreboard.layout import Entry, places
from podium.scoreboard.store import BoardState, RankingStore
from tests.load.machine import cpu_seconds
from tests.support.apps import ROOT, Service
from tests.support.processes import scratch_directory
from tests.support.replica import Replica
from tests.support.stores import Stores

BOARD = "default"
UPDATES_PER_COMMIT = 20
VERIFY_ROWS = 10_000
FIRST_SECONDS = 200.0
"""How long the first ranking may take, on a machine that is busy with other things."""

_FILL = """
INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
SELECT %s, 'user-' || n, 'Player ' || n, (hashint4(n) %% 1000000)::bigint, 1 + n %% 50,
  timestamptz '2026-01-01' + (n %% 86400) * interval '1.000001 second', timestamptz '2026-01-02',
  1 + n %% 50, n %% 1000 = 0
FROM generate_series(1, %s) AS n
"""

_UPDATE = """
UPDATE user_score s SET score = s.score + 7, version = s.version + 1, reached_at = clock_timestamp(),
  last_updated = clock_timestamp(), total_actions = s.total_actions + 1
WHERE board = $1 AND user_id = ANY($2::text[])
RETURNING user_id, username, score, version, reached_at, hidden
"""

_IN_ORDER = """
SELECT user_id, username, score, reached_at FROM user_score WHERE board = %s AND NOT hidden
ORDER BY score DESC, reached_at, user_id
"""


@dataclass(frozen=True)
class Result:
    """One run. Times in seconds; memory in MiB."""

    users: int
    shards: int
    seconds: float
    cpuSeconds: dict[str, float]  # noqa: N815 - names of the JSON document
    projectorPeakMiB: float  # noqa: N815
    projectorIdleMiB: float  # noqa: N815
    updatesMeanwhile: int  # noqa: N815
    exact: bool


class Load:
    """Commits updates and tells of them, for as long as it runs."""

    def __init__(self, bus: Bus, database: asyncpg.Pool, users: int, per_second: int) -> None:
        self.updates = 0
        self._bus = bus
        self._database = database
        self._users = users
        self._pause = UPDATES_PER_COMMIT / per_second
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Until ``stop``."""
        dice = random.Random(4)
        while not self._stop.is_set():
            chosen = sorted({f"user-{dice.randint(1, self._users)}" for _ in range(UPDATES_PER_COMMIT)})
            rows = await self._database.fetch(_UPDATE, BOARD, chosen)
            event_id = str(uuid.uuid4())
            payload = msgspec.json.encode({"eventId": event_id, "updates": [_entry(row) for row in rows]})
            await self._bus.publish(SCORE_UPDATED, payload, message_id=event_id)
            self.updates += len(rows)
            await asyncio.sleep(self._pause)

    def stop(self) -> None:
        """After the commit under way."""
        self._stop.set()


def _entry(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "board": BOARD,
        "userId": row["user_id"],
        "username": row["username"],
        "score": row["score"],
        "version": row["version"],
        "reachedAt": timestamp(row["reached_at"]),
        "hidden": row["hidden"],
    }


async def measure(users: int, shards: int, per_second: int) -> Result:
    """One run on stores of its own."""
    with scratch_directory() as directory:
        stores = Stores(directory)
        replica = Replica(stores.postgres, directory)
        try:
            stores.start()
            database = stores.postgres.create_database()
            _say(f"{users} users are made")
            with psycopg.connect(_dsn(stores, database), autocommit=True) as connection:
                connection.execute(_FILL, (BOARD, users))
                connection.execute("VACUUM ANALYZE user_score")
            replica.start()
            environment = {
                **stores.environment(database),
                "PODIUM_DATABASE_READ_HOST": "127.0.0.1",
                "PODIUM_DATABASE_READ_PORT": str(replica.port),
                "PODIUM_BOARDS": json.dumps([{"name": BOARD, "shards": shards}]),
            }
            async with await connect(stores.nats.settings(), "load") as bus:
                await bus.ensure_streams()
            projector = Service("podium.scoreboard.projector", environment, directory)
            projector.start()
            try:
                await asyncio.to_thread(projector.wait_ready, FIRST_SECONDS)
                return await _run(stores, replica, projector, database, users, shards, per_second)
            finally:
                await asyncio.to_thread(projector.stop)
        finally:
            replica.stop()
            stores.stop()


async def _run(
    stores: Stores, replica: Replica, projector: Service, database: str, users: int, shards: int, per_second: int
) -> Result:
    parts = {
        "projector": [projector.pid],
        "primary": [stores.postgres.process.pid],
        "replica": [replica.process.pid],
        "redis": [each.pid for each in stores.redis.processes],
        "nats": [stores.nats.process.pid],
    }
    client = make_redis(stores.redis.settings())
    store = RankingStore(client)
    pool = await asyncpg.create_pool(_dsn(stores, database), min_size=1, max_size=2)
    bus = await connect(stores.nats.settings(), "load")
    load = Load(bus, pool, users, per_second)
    try:
        before = await _current(store, 0)
        idle = _memory(projector.pid, "VmRSS")
        await asyncio.to_thread(_forget_peak, projector.pid)
        flow = asyncio.create_task(load.run())
        await asyncio.sleep(1)
        cpu = {name: cpu_seconds(pids) for name, pids in parts.items()}
        updates, begun = load.updates, time.perf_counter()
        await asyncio.to_thread(stores.redis.flush)
        await _current(store, before.epoch or 0)
        seconds = time.perf_counter() - begun
        spent = {name: round(cpu_seconds(pids) - cpu[name], 2) for name, pids in parts.items()}
        meanwhile = load.updates - updates
        load.stop()
        await flow
        await _projected(bus)
        exact = await asyncio.to_thread(_exact, stores, database, shards, (await store.state(BOARD)).epoch or 0)
        return Result(users, shards, round(seconds, 2), spent, _memory(projector.pid, "VmHWM"), idle, meanwhile, exact)
    finally:
        await bus.close()
        await pool.close()
        await client.aclose()


async def _current(store: RankingStore, after: int) -> BoardState:
    """The state of the board once it has an epoch later than ``after``."""
    while True:
        state = await store.state(BOARD)
        if state.epoch is not None and state.epoch > after:
            return state
        await asyncio.sleep(0.02)


async def _projected(bus: Bus) -> None:
    last = await bus.last_sequence(SCORE_UPDATED)
    while await bus.acknowledged("projector") < last:
        await asyncio.sleep(0.1)


def _exact(stores: Stores, database: str, shards: int, epoch: int) -> bool:
    """Whether the merged order of all shards is SQL's, user by user."""
    held: list[Entry] = []
    cluster = redis.RedisCluster(host="127.0.0.1", port=stores.redis.ports[0], password=stores.redis.password)
    for place in places(BOARD, shards):
        key, start = f"{place.prefix}{epoch}:rank", 0
        while found := cluster.zrange(key, start, start + VERIFY_ROWS - 1, withscores=True):
            held += [Entry(int(score), member, b"") for member, score in cast(list[tuple[bytes, float]], found)]
            start += VERIFY_ROWS
    held.sort()
    with psycopg.connect(_dsn(stores, database)) as connection, connection.cursor("ordered") as cursor:
        cursor.itersize = VERIFY_ROWS
        cursor.execute(_IN_ORDER, (BOARD,))
        count = 0
        for count, (user_id, _, score, _) in enumerate(cursor, 1):
            if count > len(held) or (held[count - 1].user_id, -held[count - 1].score) != (user_id, score):
                return False
    return count == len(held)


def _dsn(stores: Stores, database: str) -> str:
    postgres = stores.postgres
    return f"postgresql://podium:{postgres.password}@127.0.0.1:{postgres.port}/{database}"


def _memory(pid: int, field: str) -> float:
    """``VmRSS`` or ``VmHWM`` (the peak) of a process in MiB (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ValueError(field)


def _forget_peak(pid: int) -> None:
    """From now on ``VmHWM`` is the peak since now (proc(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, write build/bench/rebuild.json; fails where the ranking is not exact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1])
    parser.add_argument("--updates", type=int, default=500, help="updates a second that flow meanwhile")
    options = parser.parse_args()
    results = [asyncio.run(measure(options.users, shards, options.updates)) for shards in options.shards]
    for one in results:
        cpu = ", ".join(f"{name} {seconds}" for name, seconds in one.cpuSeconds.items())
        print(
            f"{one.users} users, {one.shards} shards: {one.seconds} s; CPU seconds: {cpu}; projector's peak "
            f"{one.projectorPeakMiB} MiB (idle {one.projectorIdleMiB}); {one.updatesMeanwhile} updates meanwhile; "
            f"exact: {one.exact}"
        )
    output = ROOT / "build" / "bench" / "rebuild.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(msgspec.json.format(msgspec.json.encode({"rows": results}), indent=1).decode() + "\n")
    return 0 if all(one.exact for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
