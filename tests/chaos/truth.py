"""What the system holds: PostgreSQL by SQL, the ranking in Redis, the pages that the API answers."""

import asyncio
import base64
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from psycopg.rows import TupleRow

from tests.chaos.forward import forwarded
from tests.chaos.ledger import BEST, LATEST, Answer, Books, Key, Place, Ranking, Standing, places_of
from tests.support.client import Client
from tests.support.instance import Instance, Object

BOARD = "default"
"""The board that players play for and watchers watch."""

ROLE = "podium.dev/role"
"""Label by which Patroni says which pod leads."""

PAGE = 1000
"""Places of the longest page that the API gives."""

OPERATIONS = "ops"
"""Name of the client with the scope ``admin``."""

CONNECT_SECONDS = 5

_LOG = """
SELECT user_id, action_id, score_increase, (response->>'score')::bigint, (response->>'totalActions')::bigint
FROM action_log JOIN unnest(%s::text[], %s::text[]) AS asked (user_id, action_id) USING (user_id, action_id)
"""
_ROWS = "SELECT user_id, count(*) FROM action_log WHERE user_id = ANY(%s) GROUP BY user_id"
_SCORES = "SELECT board, user_id, score FROM user_score WHERE board = ANY(%s) AND user_id = ANY(%s)"
_RANKING = """
SELECT user_id, username, score, (extract(epoch FROM reached_at) * 1000000)::bigint
FROM current_score WHERE board = %s AND NOT hidden ORDER BY score DESC, reached_at, user_id
"""
_OUTBOX = """
SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - created_at)), 0)::float8 FROM outbox
"""

# -c follows the cluster to the shard of the key; the password comes from its file by way of the environment.
_REDIS = 'REDISCLI_AUTH=$(cat /etc/podium/secret/password); export REDISCLI_AUTH; exec redis-cli -c "$@"'


@dataclass
class Truth:
    """Looks into the stores of one Scoreboard."""

    instance: Instance
    client: Client
    _password: str = field(default="", repr=False)

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
        """A connection to the primary. Raises AssertionError or ``psycopg.OperationalError`` where there is none."""
        if not self._password:
            secret = await asyncio.to_thread(self.instance.get, "secret", f"{self.instance.name}-postgres")
            self._password = base64.b64decode(secret["data"]["password"]).decode()
        pod = await self.primary()
        async with forwarded(self.instance, f"pod/{pod['metadata']['name']}", 5432) as port:
            connection = await psycopg.AsyncConnection.connect(
                host="127.0.0.1",
                port=port,
                user="podium",
                password=self._password,
                dbname="podium",
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                options="-c statement_timeout=60000",
            )
            async with connection:
                yield connection

    async def primary(self) -> Object:
        """The pod of PostgreSQL that leads. Raises AssertionError where none does."""
        pods = await asyncio.to_thread(self.instance.pods, "postgres")
        leading = [pod for pod in pods if pod["metadata"]["labels"].get(ROLE) == "primary"]
        assert len(leading) == 1, f"{len(leading)} pods of PostgreSQL lead"
        return leading[0]

    async def boards(self) -> list[str]:
        """The names of the Scoreboard's boards."""
        scoreboard = await asyncio.to_thread(self.instance.scoreboard)
        return [board["name"] for board in scoreboard["spec"]["boards"]]

    async def books(self, users: Sequence[str], keys: Iterable[Key]) -> tuple[Books, dict[str, Ranking]]:
        """What PostgreSQL holds of the users and of single updates, and the whole ranking of each board by SQL."""
        keys = list(keys)
        log: dict[Key, list[Answer]] = defaultdict(list)
        async with self.database() as connection:
            asked = [key.user_id for key in keys], [key.action_id for key in keys]
            async for user_id, action_id, increase, score, total in await connection.execute(_LOG, asked):
                log[Key(user_id, action_id)].append(Answer(score, increase, total))
            rows = await (await connection.execute(_ROWS, [list(users)])).fetchall()
            scores: dict[str, dict[str, int]] = {board: {} for board in (BOARD, BEST, LATEST)}
            async for board, user_id, score in await connection.execute(_SCORES, [list(scores), list(users)]):
                scores[board][user_id] = score
            rankings = {
                board: _ranking(await (await connection.execute(_RANKING, [board])).fetchall())
                for board in await self.boards()
            }
        own = scores.pop(BOARD)
        return Books(log, dict(rows), own, scores), rankings

    async def page(self, board: str) -> list[Place]:
        """The longest page of a board that the API gives. Raises ``httpx.HTTPError`` where it gives none."""
        answer = await self.client.http.get("/api/v1/scoreboard", params={"board": board, "limit": PAGE})
        answer.raise_for_status()
        return places_of(answer.json()["rankings"])

    async def own_page(self, user_id: str) -> Place:
        """What the API says of one user. Raises ``httpx.HTTPError`` where it says nothing."""
        answer = await self.client.http.get(f"/api/v1/scoreboard/users/{user_id}")
        answer.raise_for_status()
        return places_of([answer.json()])[0]

    async def redis_ranking(self, board: str) -> list[Standing]:
        """A board's sorted set, whole and in its own order. Raises ``subprocess.CalledProcessError``.

        Its scores are negated, its members are the time of the score and the user (docs/architecture.md).
        """
        epoch = await self.redis("HGET", f"{{board:{board}}}:meta", "epoch")
        flat = await self.redis("ZRANGE", f"{{board:{board}}}:{epoch}:rank", "0", "-1", "WITHSCORES")
        pairs = zip(flat[::2], flat[1::2], strict=True) if flat and not isinstance(flat[0], list) else flat
        found = []
        for member, score in pairs:
            reached_at, _, user_id = member.partition(":")
            found.append(Standing(user_id, -int(float(score)), int(reached_at)))
        return found

    async def waiting(self) -> int:
        """How many events wait in the outbox."""
        async with self.database() as connection:
            return (await self.outbox(connection))[0]

    async def dead_letters(self) -> int:
        """How many messages the dead-letter stream holds. Raises ``httpx.HTTPError`` where nobody says."""
        secret = await asyncio.to_thread(self.instance.get, "secret", f"{self.instance.name}-client-{OPERATIONS}")
        password = base64.b64decode(secret["data"]["clientSecret"]).decode()
        async with Client(self.client.url, OPERATIONS, password) as operations:
            headers = {"authorization": f"Bearer {await operations.own_token('admin')}"}
            answer = await operations.http.get("/api/v1/admin/dead-letters", headers=headers)
            answer.raise_for_status()
            return int(answer.json()["total"])

    async def redis(self, *command: str) -> Any:
        """The answer of a command on the shard that has its key."""
        return json.loads(await self.redis_text("--json", *command))

    async def redis_text(self, *command: str) -> str:
        """What redis-cli prints for a command, run inside the first Redis pod that is ready."""
        pods = await asyncio.to_thread(self.instance.pods, "redis")
        ready = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
        assert ready, "no Redis pod is ready"
        exec_ = ("exec", ready[0], "--", "sh", "-c", _REDIS, "redis-cli", *command)
        return await asyncio.to_thread(self.instance.kubectl, *exec_)

    async def outbox(self, connection: psycopg.AsyncConnection[TupleRow]) -> tuple[int, float]:
        """How many events wait in the outbox, and the age of the oldest in seconds."""
        row = await (await connection.execute(_OUTBOX)).fetchone()
        assert row is not None
        return int(row[0]), float(row[1])


def _ranking(rows: Sequence[TupleRow]) -> Ranking:
    places = [Place(rank, user_id, username, score) for rank, (user_id, username, score, _) in enumerate(rows, start=1)]
    return Ranking(places, [Standing(user_id, score, reached_at) for user_id, _, score, reached_at in rows])


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


NOT_YET = (httpx.HTTPError, psycopg.Error, OSError, AssertionError)
"""What a look into a store raises while the store is away."""
