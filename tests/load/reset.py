"""``python -m tests.load.reset``: what score updates notice when a board of a million users is reset and archived.

Real PostgreSQL, flushing as in production. Batches of updates come at a steady pace, as a scores pod commits them;
their times are taken in three phases: before, from the reset until all scores are archived, and after. At the end the
sum of all seasons is compared with what was accepted.
"""

import argparse
import asyncio
import hashlib
import json
import random
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import psycopg

from podium.analytics.archive import Archive
from podium.analytics.boards import BoardStore
from podium.analytics.seasons import Seasons
from podium.common.database import make_engine
from podium.common.rules import Action, Board
from podium.scores.domain import Accepted, Update
from podium.scores.domain_rules import Award, Rules
from podium.scores.pool import open_pool
from podium.scores.store import ScoreStore
from tests.load.machine import cpu_seconds
from tests.support.processes import scratch_directory
from tests.support.stores import Overrides, Postgres

BOARD = Board(name="default")
POINTS = 10
PER_BATCH = 32
BATCHES_PER_SECOND = 20
PHASE_SECONDS = 10.0
DURABLE = Overrides(
    postgres={"fsync": "on", "full_page_writes": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}
)

_FILL = """
INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions)
SELECT 'default', 'user-' || n, 'Player ' || n, 10, 1, clock_timestamp(), clock_timestamp(), 1
FROM generate_series(1, {users}) AS n;
INSERT INTO player (user_id, username) SELECT user_id, username FROM user_score;
"""
_SUM = """
SELECT CAST(sum(score) AS bigint) FROM (SELECT score FROM user_score UNION ALL SELECT score FROM season_score) AS every
"""


class Load:
    """Commits batches at a steady pace and notes how long each took, in milliseconds."""

    def __init__(self, store: ScoreStore, users: int) -> None:
        self._store = store
        self._users = users
        self._award = Award("win", POINTS, (BOARD,), ())
        self.accepted = 0
        self.times: list[float] = []

    async def run(self) -> None:
        """Until cancelled; a batch that is late does not hold up the next one."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._commit())
                await asyncio.sleep(1 / BATCHES_PER_SECOND)

    def phase(self) -> list[float]:
        """The times since the last call."""
        times, self.times = self.times, []
        return times

    async def _commit(self) -> None:
        users = {f"user-{random.randint(1, self._users)}" for _ in range(PER_BATCH)}
        updates = [self._update(user) for user in users]
        started = time.perf_counter()
        committed = await self._store.commit(updates)
        self.times.append((time.perf_counter() - started) * 1000)
        self.accepted += sum(isinstance(outcome, Accepted) for outcome in committed.outcomes)

    def _update(self, user: str) -> Update:
        action = str(uuid.uuid4())
        digest = hashlib.sha256(action.encode()).digest()
        return Update(user, user, action, "win", int(time.time() * 1e6), "{}", digest, self._award)


def described(times: Sequence[float]) -> dict[str, float]:
    """Batches and their times in milliseconds."""
    cuts = quantiles(times, n=100)
    return {
        "batches": len(times),
        "p50Ms": round(cuts[49], 1),
        "p99Ms": round(cuts[98], 1),
        "maxMs": round(max(times), 1),
    }


async def measure(postgres: Postgres, users: int) -> dict[str, Any]:
    """One run on a fresh database."""
    settings = postgres.settings(postgres.create_database())
    with psycopg.connect(
        host=settings.host, port=settings.port, dbname=settings.name, user=settings.user,
        password=settings.password.get_secret_value(), autocommit=True,
    ) as database:  # fmt: skip
        database.execute(_FILL.format(users=users))
        database.execute("VACUUM ANALYZE")
        pool, engine = await open_pool(settings, 8), make_engine(settings)
        rules = Rules((BOARD,), (Action(type="win", points=POINTS),), (), 1000)
        load = Load(ScoreStore(pool, rules), users)
        seasons = Seasons(BoardStore(engine), Archive(engine), (BOARD,), lambda: None)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(PHASE_SECONDS)
        before, cpu = load.phase(), cpu_seconds([postgres.process.pid])
        started = time.perf_counter()
        await BoardStore(engine).reset(BOARD.name)
        reset = time.perf_counter() - started
        await seasons.archive()
        archived, cpu = time.perf_counter() - started, cpu_seconds([postgres.process.pid]) - cpu
        during = load.phase()
        await asyncio.sleep(PHASE_SECONDS)
        after = load.phase()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        row = database.execute(_SUM).fetchone()
        await pool.close()
        await engine.dispose()
    assert row is not None
    return {
        "users": users, "resetMs": round(reset * 1000, 1), "archivedSeconds": round(archived, 1),
        "postgresCpuSeconds": round(cpu, 1), "before": described(before), "meanwhile": described(during),
        "after": described(after), "accepted": load.accepted, "exact": row[0] == POINTS * (users + load.accepted),
    }  # fmt: skip


def main() -> int:
    """Print the figures, and write them where asked; 1 where the sums differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with scratch_directory() as directory:
        postgres = Postgres(directory, DURABLE)
        postgres.start()
        postgres.finish_start()
        try:
            found = asyncio.run(measure(postgres, options.users))
        finally:
            postgres.process.stop()
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")
    return 0 if found["exact"] else 1


if __name__ == "__main__":
    sys.exit(main())
