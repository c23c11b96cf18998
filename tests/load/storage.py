"""Whether an update costs the same on a small database and on a large one."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from podium_dev.console import stage
from tests.load.arena import Arena, Entered, Run
from tests.load.contenders import podium
from tests.load.generator import Load, Users
from tests.load.rounds import WARM_UP_SECONDS, Plan, Row, measure_in_turn, row_of

_PLAYERS = """
INSERT INTO player (user_id, username, total_actions, updated_at)
SELECT 'player-' || lpad(i::text, 7, '0'), 'Player ' || i, 10, now() - interval '1 day'
FROM generate_series(0, %(users)s::int - 1) i
"""

_SCORES = """
INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions)
SELECT 'default', 'player-' || lpad(i::text, 7, '0'), 'Player ' || i, i::bigint * 7919 %% 100000 * 10, 10,
  now() - interval '1 day', now() - interval '1 day', 10
FROM generate_series(0, %(users)s::int - 1) i
"""

_LOG = """
INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata,
  metadata_checksum, body_sha256, ip_address, device_info, request_signature, response)
SELECT u, md5(i::text), 'win', 10, at, at,
  '{"type": "win", "timestamp": "2026-01-01T00:00:00Z", "additionalData": {"level": 3, "mode": "arcade"}}',
  sum, sum, '127.0.0.1', 'podium-bench', 'sig1=:' || encode(sum, 'base64') || ':',
  ('{"actionId": "' || md5(i::text) || '", "userId": "' || u || '", "username": "Player", "score": 10, '
    '"scoreIncrease": 10, "totalActions": 1, "tier": "bronze", "lastUpdated": "2026-01-01T00:00:00.000000Z"}')::jsonb
FROM generate_series(%(first)s::int, %(last)s::int) i,
  LATERAL (SELECT now() - interval '1 day' + i * interval '1 millisecond' AS at, sha256(i::text::bytea) AS sum,
    'player-' || lpad((i::bigint * 7919 %% %(users)s)::text, 7, '0') AS u) t
"""

_KEYS = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
FROM pg_partition_tree('action_log') p JOIN pg_index i ON i.indrelid = p.relid
WHERE p.isleaf AND i.indisunique
"""

CHUNK = 500_000
"""Rows of the log that one statement writes."""

FILLERS = 2
"""Connections that fill the log."""


@dataclass(frozen=True)
class Size:
    """How much a database holds before it is measured."""

    users: int
    log_rows: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.users} users, {self.log_rows} log rows"


async def by_size(arena: Arena, sizes: Sequence[Size], plan: Plan) -> list[Row]:
    """Podium on a database of each size, measured in turn.

    As many users send everywhere, so that caches of tokens are alike; they are spread evenly over all users there are,
    and others send in each round, so that rows come from everywhere.
    """
    async with contextlib.AsyncExitStack() as stack:
        entered: list[tuple[Size, Entered]] = []
        for size in sizes:
            database = await asyncio.to_thread(_filled, arena, size)
            contender = dataclasses.replace(podium(1), name=size.name)
            entered.append((size, await stack.enter_async_context(arena.entered(contender, database))))
        runs: dict[str, list[Run]] = {}
        for number in range(plan.rounds):
            for size, each in entered:
                stride = size.users // plan.users
                users = Users(plan.users, number % stride, stride)
                with stage(f"Warm up for round {number + 1} with {size.name}"):
                    await each.warm_up(Load(WARM_UP_SECONDS, users=users))
                found = await measure_in_turn([each], Load(plan.seconds, users=users), 1)
                runs.setdefault(size.name, []).append(found[each.name][0])
    return [row_of(name, found) for name, found in runs.items()]


def _filled(arena: Arena, size: Size) -> str:
    """A database that holds so much, as if it had been there for a while: vacuumed, analysed, on disk."""
    database = arena.stores.postgres.create_database()
    with stage(f"Fill a database with {size.name}"), arena.connection(database) as connection:
        connection.execute("SET synchronous_commit TO off")
        connection.execute("SET maintenance_work_mem TO '512MB'")
        connection.execute(_PLAYERS, {"users": size.users})
        connection.execute(_SCORES, {"users": size.users})
        # An index that is built at the end is built in a tenth of the time.
        keys = connection.execute(_KEYS).fetchall()
        for name, _ in keys:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        with concurrent.futures.ThreadPoolExecutor(FILLERS) as pool:
            list(pool.map(lambda first: _fill_log(arena, database, size, first), range(0, size.log_rows, CHUNK)))
        for _, definition in keys:
            connection.execute(definition)
        for table in ("player", "user_score", "action_log", "action_key"):
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))
    arena.stores.postgres.checkpoint()
    return database


def _fill_log(arena: Arena, database: str, size: Size, first: int) -> None:
    with arena.connection(database) as connection:
        connection.execute("SET synchronous_commit TO off")
        last = min(first + CHUNK, size.log_rows) - 1
        connection.execute(_LOG, {"users": size.users, "first": first, "last": last})
