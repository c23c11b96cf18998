"""The place of a measurement: durable stores, one database for each contender, and what a run of it costs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nats
import psycopg

from podium.common.bus import EVENTS_STREAM, connect
from tests.load import scoreboard
from tests.load.contenders import Contender, Running
from tests.load.generator import Load, Report, run_load
from tests.load.machine import cpu_seconds
from tests.support.processes import scratch_directory
from tests.support.stores import Stores

DRAIN_SECONDS = 20.0
"""How long a contender has to send and delete the events of a run."""

POINTS = 10
"""Points of the action ``win``."""


@dataclass(frozen=True)
class Run:
    """One measured run of a contender. CPU in seconds by part; ``correct`` as ``Arena.measure`` has it."""

    report: Report
    cpu: Mapping[str, float]
    rows: int
    score: int
    drained: bool

    @property
    def correct(self) -> bool:
        """Every 200 is one row of the log and its points in the scores, nothing else is, and all events were sent."""
        expected = self.report.accepted
        return self.drained and not self.report.errors and self.rows == expected and self.score == expected * POINTS

    @property
    def cpu_micros_per_request(self) -> float:
        """CPU of service and stores for one accepted update, in microseconds."""
        return sum(self.cpu.values()) / max(self.report.accepted, 1) * 1e6

    def micros(self, part: str) -> float:
        """CPU of one part for one accepted update, in microseconds."""
        return self.cpu[part] / max(self.report.accepted, 1) * 1e6


class Entered:
    """A contender that runs in the arena, with its database."""

    def __init__(self, arena: "Arena", contender: Contender, database: str, running: Running) -> None:
        self.contender = contender
        self.running = running
        self.database = database
        self._arena = arena

    @property
    def name(self) -> str:
        """Name of the contender."""
        return self.contender.name

    async def warm_up(self, load: Load) -> None:
        """Let every process meet every user once, so that caches are as they are on an ordinary day."""
        for address in self.running.addresses:
            once = Load(load.seconds, requests=load.users.count, users=load.users)
            await run_load([address], once, self._arena.keys)
        await self._arena.drained(self.database)

    async def measure(self, load: Load) -> Run:
        """Send a load, wait until its events are on their way, and say what it cost and whether it is true."""
        arena = self._arena
        rows, score = arena.counted(self.database)
        roots = {"service": self.running.pids, **arena.store_pids()}
        before = {part: cpu_seconds(pids) for part, pids in roots.items()}
        report = await run_load(self.running.addresses, load, arena.keys)
        drained = await arena.drained(self.database)
        cpu = {part: cpu_seconds(pids) - before[part] for part, pids in roots.items()}
        rows_after, score_after = arena.counted(self.database)
        await arena.purge_events()
        return Run(report, cpu, rows_after - rows, score_after - score, drained)


class Arena:
    """Stores that flush as in production, and the contenders on them."""

    def __init__(self, stores: Stores, directory: Path) -> None:
        self.stores = stores
        self.directory = directory
        self.keys = scoreboard.Keys.generate()

    def environment(self, database: str) -> dict[str, str]:
        """All variables of a contender."""
        return {**scoreboard.environment(), **self.keys.environment(), **self.stores.environment(database)}

    def store_pids(self) -> dict[str, list[int]]:
        """Process ids of the stores by name; children belong to them."""
        return {
            "postgres": [self.stores.postgres.process.pid],
            "redis": [process.pid for process in self.stores.redis.processes],
            "nats": [self.stores.nats.process.pid],
        }

    @contextlib.asynccontextmanager
    async def entered(self, contender: Contender, database: str | None = None) -> AsyncIterator[Entered]:
        """Run a contender inside the block, on a database of its own unless one is given."""
        database = database or self.stores.postgres.create_database()
        running = Running(contender, self.environment(database), self.directory)
        try:
            await asyncio.to_thread(running.start)
            yield Entered(self, contender, database, running)
        finally:
            await asyncio.to_thread(running.stop)

    def connection(self, database: str) -> psycopg.Connection:
        """A connection to look at what was written."""
        settings = self.stores.postgres.settings(database)
        return psycopg.connect(
            host=settings.host,
            port=settings.port,
            dbname=settings.name,
            user=settings.user,
            password=settings.password.get_secret_value(),
            autocommit=True,
        )

    def counted(self, database: str) -> tuple[int, int]:
        """Rows of the log, and the sum of all scores."""
        with self.connection(database) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM action_log), (SELECT coalesce(sum(score), 0) FROM user_score)"
            ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    async def drained(self, database: str) -> bool:
        """Wait until the outbox is empty; False if it is not within DRAIN_SECONDS."""
        deadline = time.monotonic() + DRAIN_SECONDS
        with self.connection(database) as connection:
            while time.monotonic() < deadline:
                row = connection.execute("SELECT EXISTS (SELECT FROM outbox)").fetchone()
                if row is not None and not row[0]:
                    return True
                await asyncio.sleep(0.05)
        return False

    async def purge_events(self) -> None:
        """Empty the event stream, so that no run works on what another left."""
        settings = self.stores.nats.settings()
        client = await nats.connect(settings.url, user=settings.user, password=settings.password.get_secret_value())
        try:
            await client.jetstream().purge_stream(EVENTS_STREAM)
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def running_arena() -> AsyncIterator[Arena]:
    """An arena whose stores run inside the block."""
    with scratch_directory() as directory:
        stores = Stores(directory, scoreboard.durable())
        try:
            await asyncio.to_thread(stores.start)
            async with await connect(stores.nats.settings(), "bench") as bus:
                await bus.ensure_streams()
            yield Arena(stores, directory)
        finally:
            await asyncio.to_thread(stores.stop)
