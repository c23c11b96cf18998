"""Score updates in PostgreSQL: many to a transaction. The only place of this service that writes scores.

Times are integers of Unix microseconds on both sides, so nothing is rounded.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from podium.common.bus import SCORE_UPDATED
from podium.common.seasons import first_version
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
from podium.scores.pool import FOR_EVER, Connection, Pool, connected, db_span, transaction

MAX_CHANGES_PER_EVENT = 1024
"""Entries of one event; at some 400 bytes each it stays well below NATS's largest message of 1 MB."""


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
        async with connected(self._pool) as connection:
            try:
                return await self._transaction(connection, updates, traceparent)
            except _PlayersMissing:
                # In a transaction of their own: rows inserted under locks on others could deadlock with another batch.
                await connection.execute(sql.ADD_PLAYERS, *_columns({u.user_id: u.username for u in updates}.items()))
                return await self._transaction(connection, updates, traceparent)

    async def _transaction(
        self, connection: Connection, updates: Sequence[Update], traceparent: str | None
    ) -> Committed:
        async with transaction(connection):
            state, ended, now = await self._read(connection, updates)
            decision = decide(state, updates, self._rules, now)
            events = _events(decision.changes, traceparent)
            if decision.logged:
                if ended:
                    with db_span("DELETE user_score, INSERT season_score"):
                        await connection.execute(sql.ARCHIVE_SCORES, *_columns(ended))
                with db_span("INSERT action_log, user_score, outbox"):
                    await connection.execute(sql.WRITE, *_write_arguments(decision, events))
        return Committed(decision.outcomes, events)

    async def _read(
        self, connection: Connection, updates: Sequence[Update]
    ) -> tuple[State, list[tuple[str, str]], int]:
        """Lock the players; read what was logged, their scores, and which scores (board, user) are of ended seasons.

        The clock is read after the locks are held.
        """
        users = list({update.user_id for update in updates})
        with db_span("SELECT player FOR UPDATE"):
            players = await connection.fetch(sql.LOCK_PLAYERS, users)
        if len(players) < len(users):
            raise _PlayersMissing
        # A statement of its own: its snapshot must be younger than the locks, to see what their last holders logged.
        with db_span("SELECT action_log"):
            logged = await connection.fetch(
                sql.LOOK_UP_ACTIONS, [update.user_id for update in updates], [update.action_id for update in updates]
            )
        targets = {
            (board.name, update.user_id)
            for update in updates
            if isinstance(update.verdict, Award)
            for board in update.verdict.boards
        }
        with db_span("SELECT user_score"):
            rows = await connection.fetch(sql.READ_SCORES, *_columns(targets)) if targets else []
        scores, ended = _scores(rows)
        state = State(
            players={row["user_id"]: _player(row) for row in players},
            scores=scores,
            log={
                (row["user_id"], row["action_id"]): Logged(
                    row["body_sha256"], msgspec.json.decode(row["response"], type=Answer)
                )
                for row in logged
                if row["body_sha256"] is not None
            },
        )
        return state, ended, max(row["now"] for row in logged)


def _scores(rows: Sequence[asyncpg.Record]) -> tuple[dict[tuple[str, str], ScoreState], list[tuple[str, str]]]:
    """The scores of the running seasons by (board, user), new ones included, and the keys of those that have ended."""
    scores: dict[tuple[str, str], ScoreState] = {}
    ended = []
    for row in rows:
        values = dict(row)
        key = (values["board"], values["user_id"])
        floor = first_version(values.pop("season"))
        if values["version"] is not None and values["version"] >= floor:
            scores[key] = ScoreState(**values)
            continue
        scores[key] = ScoreState(*key, version=floor)
        if values["version"] is not None:
            ended.append(key)
    return scores, ended


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
        restricted_until=None if row["restricted_until"] == FOR_EVER else row["restricted_until"],
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
        async with connected(self._pool) as connection, transaction(connection):
            await connection.execute("SET LOCAL synchronous_commit TO off")
            await connection.execute(sql.DELETE_EVENTS, list(event_ids))

    async def relay(self, publish: Callable[[Sequence[Event]], Awaitable[Sequence[UUID]]], limit: int) -> int:
        """Hand events older than a second to ``publish`` and delete those it says were sent; how many these were.

        Other pods skip the rows meanwhile.
        """
        async with connected(self._pool) as connection, transaction(connection):
            rows = await connection.fetch(sql.TAKE_EVENTS, limit)
            if not rows:
                return 0
            sent = await publish([Event(**dict(row)) for row in rows])
            await connection.execute("SET LOCAL synchronous_commit TO off")
            await connection.execute(sql.DELETE_EVENTS, list(sent))
            return len(sent)

    async def oldest_age(self) -> float:
        """Age in seconds of the oldest event, 0 if there is none."""
        async with connected(self._pool) as connection:
            age = await connection.fetchval(sql.OLDEST_EVENT_AGE)
        return float(age or 0.0)
