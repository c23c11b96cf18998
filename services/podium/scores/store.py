"""Score updates in PostgreSQL: many to a transaction. The only place of this service that writes scores.

Times cross the wire as integers of Unix microseconds (a codec of this module), so nothing is rounded.
"""

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec
from opentelemetry import trace

from podium.common.bus import SCORE_UPDATED
from podium.common.database import CONNECT_TIMEOUT_SECONDS, DRIVER_ERRORS, STATEMENT_TIMEOUT_SECONDS
from podium.common.settings import DatabaseSettings
from podium.common.telemetry import tracer
from podium.scores import sql
from podium.scores.domain import (
    Answer,
    Change,
    Decision,
    Logged,
    Outcome,
    PlayerState,
    ScoreState,
    State,
    Update,
    decide,
    rfc3339,
)
from podium.scores.domain_limits import SECOND
from podium.scores.domain_rules import Award, Rules

MAX_CHANGES_PER_EVENT = 1024
"""Entries of one event; at some 400 bytes each it stays well below NATS's largest message of 1 MB."""

IDLE_IN_TRANSACTION_MS = 5_000
"""After this, in milliseconds, the server ends a transaction whose pod froze or vanished, so its row locks go."""

_PG_EPOCH = 946_684_800 * SECOND
"""2000-01-01, where PostgreSQL's binary times begin, in Unix microseconds."""

_FOR_EVER = 2**63 - 1
"""PostgreSQL's binary ``infinity``."""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the outbox. ``traceparents`` are those of the sampled updates in it."""

    event_id: UUID
    subject: str
    payload: bytes
    traceparent: str | None
    traceparents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction did: one outcome for each update, in their order, and the events to send."""

    outcomes: Sequence[Outcome]
    events: Sequence[Event]


class _Players(msgspec.Struct, frozen=True):
    """``updates`` of an event, as the encoder wants them."""

    updates: list[Change]
    event_id: str = msgspec.field(name="eventId")


async def open_pool(settings: DatabaseSettings, size: int) -> Pool:
    """A pool that connects when it is used; it does not reach the server now, so it never fails."""
    return await asyncpg.create_pool(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password.get_secret_value() or None,
        database=settings.name,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=300.0,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=STATEMENT_TIMEOUT_SECONDS,
        init=_prepare_connection,
        reset=_keep_session,
        server_settings={
            "application_name": "podium-scores",
            "jit": "off",
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
        },
    )


async def _prepare_connection(connection: Any) -> None:
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_encode_time, decoder=_decode_time, format="tuple"
    )


async def _keep_session(_: Any) -> None:
    """Nothing in a session outlives its transaction here, so the pool's reset would be a wasted round trip."""


def _encode_time(microseconds: int) -> tuple[int]:
    return (microseconds - _PG_EPOCH,)


def _decode_time(value: tuple[int]) -> int:
    return _FOR_EVER if value[0] == _FOR_EVER else value[0] + _PG_EPOCH


class _PlayersMissing(Exception):
    """Some users have no row to lock yet."""


class ScoreStore:
    """Commits batches of updates."""

    def __init__(self, pool: Pool, rules: Rules) -> None:
        self._pool = pool
        self._rules = rules

    async def reconnect(self) -> None:
        """Give up all connections: after a failover they may lead to a server that is no longer the primary."""
        await self._pool.expire_connections()

    async def commit(self, updates: Sequence[Update], traceparent: str | None = None) -> Committed:
        """Decide and write ``updates`` in one transaction; back only after COMMIT.

        Raises what asyncpg raises. After an error in COMMIT itself the updates may or may not have been counted; the
        same actionId settles it. ``traceparent`` is that of the commit.
        """
        async with _connection(self._pool) as connection:
            try:
                return await self._transaction(connection, updates, traceparent)
            except _PlayersMissing:
                # In a transaction of their own: rows inserted under locks on others could deadlock with another batch.
                await connection.execute(sql.ADD_PLAYERS, *_columns({u.user_id: u.username for u in updates}.items()))
                return await self._transaction(connection, updates, traceparent)

    async def _transaction(
        self, connection: Connection, updates: Sequence[Update], traceparent: str | None
    ) -> Committed:
        async with _transaction(connection):
            state, now = await self._read(connection, updates)
            decision = decide(state, updates, self._rules, now)
            events = _events(decision.changes, traceparent)
            if decision.logged:
                with _db_span("INSERT action_log, user_score, outbox"):
                    await connection.execute(sql.WRITE, *_write_arguments(decision, events))
        return Committed(decision.outcomes, events)

    async def _read(self, connection: Connection, updates: Sequence[Update]) -> tuple[State, int]:
        """Lock the players, then their scores; read what was logged. The clock is read after the locks are held."""
        users = list({update.user_id for update in updates})
        with _db_span("SELECT player FOR UPDATE"):
            players = await connection.fetch(sql.LOCK_PLAYERS, users)
        if len(players) < len(users):
            raise _PlayersMissing
        # A statement of its own: its snapshot must be younger than the locks, to see what their last holders logged.
        with _db_span("SELECT action_log"):
            logged = await connection.fetch(
                sql.LOOK_UP_ACTIONS, [update.user_id for update in updates], [update.action_id for update in updates]
            )
        targets = {
            (board.name, update.user_id)
            for update in updates
            if isinstance(update.verdict, Award)
            for board in update.verdict.boards
        }
        with _db_span("SELECT user_score FOR UPDATE"):
            scores = await connection.fetch(sql.LOCK_SCORES, *_columns(targets)) if targets else []
        state = State(
            players={row["user_id"]: _player(row) for row in players},
            scores={(row["board"], row["user_id"]): ScoreState(**dict(row)) for row in scores},
            log={
                (row["user_id"], row["action_id"]): Logged(
                    row["body_sha256"], msgspec.json.decode(row["response"], type=Answer)
                )
                for row in logged
                if row["body_sha256"] is not None
            },
        )
        return state, max(row["now"] for row in logged)


def _db_span(name: str) -> AbstractContextManager[Any]:
    """A client span of one statement, where its batch is traced."""
    if not trace.get_current_span().is_recording():
        return nullcontext()
    return tracer.start_as_current_span(
        name, kind=trace.SpanKind.CLIENT, attributes={"db.system.name": "postgresql", "db.operation.name": name}
    )


@asynccontextmanager
async def _connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool, which does not get it back when the driver has lost track of it."""
    async with pool.acquire() as connection:
        try:
            yield connection
        except asyncpg.InternalClientError:
            connection.terminate()
            raise


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose COMMIT has a span of its own: there a synchronous standby makes itself felt."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        # The server rolls back by itself where the connection is gone, and the first error is the one to tell.
        with suppress(*DRIVER_ERRORS, OSError):
            await transaction.rollback()
        raise
    with _db_span("COMMIT"):
        await transaction.commit()


def _columns(rows: Any, width: int = 2) -> tuple[list[Any], ...]:
    columns: tuple[list[Any], ...] = tuple(list(column) for column in zip(*rows, strict=True))
    return columns or tuple([] for _ in range(width))


def _player(row: asyncpg.Record) -> PlayerState:
    times: dict[str, list[float]] = msgspec.json.decode(row["action_times"])
    return PlayerState(
        user_id=row["user_id"],
        username=row["username"],
        total_actions=row["total_actions"],
        recent=row["recent"],
        action_times={kind: [round(second * SECOND) for second in seconds] for kind, seconds in times.items()},
        restriction=row["restriction"],
        restricted_until=None if row["restricted_until"] == _FOR_EVER else row["restricted_until"],
    )


def _events(changes: Sequence[Change], traceparent: str | None) -> list[Event]:
    events = []
    for start in range(0, len(changes), MAX_CHANGES_PER_EVENT):
        part = list(changes[start : start + MAX_CHANGES_PER_EVENT])
        event_id = uuid4()
        payload = msgspec.json.encode(_Players(updates=part, event_id=str(event_id)))
        sampled = tuple(dict.fromkeys(change.traceparent for change in part if change.traceparent))
        events.append(Event(event_id, SCORE_UPDATED, payload, traceparent, sampled))
    return events


def _write_arguments(decision: Decision, events: Sequence[Event]) -> tuple[list[Any], ...]:
    """The columns of ``sql.WRITE``, in the order of its parameters."""
    logged = _columns(
        (
            update.user_id,
            update.action_id,
            update.action_type,
            answer.score_increase,
            update.timestamp,
            at,
            msgspec.json.encode(update.metadata).decode(),
            update.body_sha256,
            _inet(update.ip_address),
            update.device_info,
            update.request_signature,
            msgspec.json.encode(answer).decode(),
            update.trace_id,
        )
        for update, answer, at in decision.logged
    )
    scores = _columns(
        (
            score.board,
            score.user_id,
            score.username,
            score.score,
            score.version,
            score.reached_at,
            score.last_updated,
            score.total_actions,
            score.hidden,
        )
        for score in decision.scores.values()
    )
    players = _columns(
        (
            player.user_id,
            player.username,
            player.total_actions,
            "{" + ",".join(map(rfc3339, player.recent)) + "}",
            msgspec.json.encode(
                {kind: [time / SECOND for time in times] for kind, times in player.action_times.items()}
            ).decode(),
            player.recent[-1],
        )
        for player in decision.players.values()
    )
    outbox = _columns((event.event_id, event.subject, event.payload, event.traceparent) for event in events)
    return *logged, *scores, *players, *outbox


def _inet(address: str | None) -> str | None:
    if address is None:
        return None
    try:
        # A zone (fe80::1%eth0) means something on one host only, and PostgreSQL refuses it.
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return None


class OutboxStore:
    """The events that JetStream has not acknowledged yet."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def delete(self, event_ids: Sequence[UUID]) -> None:
        """Forget events that JetStream has acknowledged.

        Not flushed: should a crash bring a row back, the relay sends it again and consumers know it by its versions.
        """
        async with _connection(self._pool) as connection, _transaction(connection):
            await connection.execute("SET LOCAL synchronous_commit TO off")
            await connection.execute(sql.DELETE_EVENTS, list(event_ids))

    async def relay(self, publish: Callable[[Sequence[Event]], Awaitable[Sequence[UUID]]], limit: int) -> int:
        """Hand events older than a second to ``publish`` and delete those it says were sent; how many these were.

        Other pods skip the rows meanwhile.
        """
        async with _connection(self._pool) as connection, _transaction(connection):
            rows = await connection.fetch(sql.TAKE_EVENTS, limit)
            if not rows:
                return 0
            sent = await publish([Event(**dict(row)) for row in rows])
            await connection.execute("SET LOCAL synchronous_commit TO off")
            await connection.execute(sql.DELETE_EVENTS, list(sent))
            return len(sent)

    async def oldest_age(self) -> float:
        """Age in seconds of the oldest event, 0 if there is none."""
        async with _connection(self._pool) as connection:
            age = await connection.fetchval(sql.OLDEST_EVENT_AGE)
        return float(age or 0.0)
