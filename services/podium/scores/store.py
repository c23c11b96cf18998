"""Score updates in PostgreSQL: many to a transaction. The only place of this service that writes scores.

Times are integers of Unix microseconds on both sides, so nothing is rounded.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

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
from podium.scores.pool import FOR_EVER, PG_EPOCH, Connection, Pool, connected, db_span, transaction

MAX_CHANGES_PER_EVENT = 256
"""Entries of one event; with the longest of names, at some 2 KB each, it stays below ``EVENT_MAX_BYTES``."""


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


_ANSWER = msgspec.json.Decoder(Answer)


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
            before = {user: (len(player.recent), bool(player.action_times)) for user, player in state.players.items()}
            decision = decide(state, updates, self._rules, now)
            events = _events(decision.changes, traceparent)
            if decision.logged:
                if ended:
                    with db_span("DELETE user_score, INSERT season_score"):
                        await connection.execute(sql.ARCHIVE_SCORES, *_columns(ended))
                with db_span("INSERT action_log, user_score, outbox"):
                    await connection.execute(sql.WRITE, *_write_arguments(decision, events, before))
        return Committed(decision.outcomes, events)

    async def _read(
        self, connection: Connection, updates: Sequence[Update]
    ) -> tuple[State, list[tuple[str, str]], int]:
        """Lock the players; read what was logged, their scores, and which scores (board, user) are of ended seasons.

        The clock is read after the locks are held.
        """
        users = list({update.user_id for update in updates})
        with db_span("SELECT player FOR UPDATE"):
            players = await connection.fetch(sql.LOCK_PLAYERS, *sql.columns(users))
        if len(players) < len(users):
            raise _PlayersMissing
        asked = [(update, board) for update in updates for board in _boards(update)]
        # A statement of its own: its snapshot must be younger than the locks, to see what their last holders logged.
        with db_span("SELECT action_key, user_score"):
            rows = await connection.fetch(
                sql.READ,
                *sql.columns(
                    [update.user_id for update, _ in asked],
                    [update.action_id for update, _ in asked],
                    [board or "" for _, board in asked],
                ),
            )
        state = State({player[0]: _player(*player) for player in players}, {}, {})
        ended = []
        logged: dict[tuple[str, str], int] = {}
        now = 0
        for number, logged_at, clock, season, score, version, reached_at, total_actions in rows:
            update, board = asked[number - 1]
            if clock > now:
                now = clock
            if logged_at is not None:
                logged[update.user_id, update.action_id] = logged_at
            if board is None:
                continue
            key = (board, update.user_id)
            floor = first_version(season)
            if version is not None and version >= floor:
                state.scores[key] = ScoreState(*key, "", score, version, reached_at + PG_EPOCH, 0, total_actions)
            else:
                state.scores[key] = ScoreState(*key, version=floor)
                if version is not None:
                    ended.append(key)
        if logged:
            with db_span("SELECT action_log"):
                users_of, actions_of = _columns(logged)
                found = await connection.fetch(sql.READ_LOGGED, users_of, actions_of, list(logged.values()))
            for user_id, action_id, body_sha256, response in found:
                state.log[user_id, action_id] = Logged(body_sha256, _ANSWER.decode(response))
        return state, list(dict.fromkeys(ended)), now + PG_EPOCH


def _boards(update: Update) -> Sequence[str | None]:
    """The boards that an update would move; one None where it moves none."""
    verdict = update.verdict
    return [board.name for board in verdict.boards] if isinstance(verdict, Award) else [None]


def _columns(rows: Any, width: int = 2) -> tuple[list[Any], ...]:
    columns: tuple[list[Any], ...] = tuple(list(column) for column in zip(*rows, strict=True))
    return columns or tuple([] for _ in range(width))


def _player(
    user_id: str,
    total_actions: int,
    recent: list[int],
    action_times: str,
    restriction: str | None,
    restricted_until: int | None,
) -> PlayerState:
    if restricted_until is not None:
        restricted_until = None if restricted_until == FOR_EVER else restricted_until + PG_EPOCH
    return PlayerState(
        user_id,
        "",
        total_actions,
        [time + PG_EPOCH for time in recent],
        0,
        {} if action_times == "{}" else _action_times(action_times),
        restriction,
        restricted_until,
    )


def _action_times(text: str) -> dict[str, list[int]]:
    times: dict[str, list[float]] = msgspec.json.decode(text)
    return {kind: [round(second * SECOND) for second in seconds] for kind, seconds in times.items()}


def _events(changes: Sequence[Change], traceparent: str | None) -> list[Event]:
    events = []
    for start in range(0, len(changes), MAX_CHANGES_PER_EVENT):
        part = list(changes[start : start + MAX_CHANGES_PER_EVENT])
        event_id = uuid4()
        payload = msgspec.json.encode(_Players(updates=part, event_id=str(event_id)))
        sampled = tuple(dict.fromkeys(change.traceparent for change in part if change.traceparent))
        events.append(Event(event_id, SCORE_UPDATED, payload, traceparent, sampled))
    return events


def _write_arguments(
    decision: Decision, events: Sequence[Event], before: Mapping[str, tuple[int, bool]]
) -> tuple[Any, ...]:
    """The parameters of ``sql.WRITE``, in their order."""
    updates = [update for update, _, _ in decision.logged]
    outcomes = [accepted for _, accepted, _ in decision.logged]
    scores = decision.scores.values()
    players = decision.players.values()
    *texts, separator = sql.columns(
        [update.user_id for update in updates],
        [update.action_id for update in updates],
        [update.action_type for update in updates],
        [str(accepted.answer.score_increase) for accepted in outcomes],
        [str(update.timestamp) for update in updates],
        [str(at) for _, _, at in decision.logged],
        [update.metadata for update in updates],
        ["\\x" + update.body_sha256.hex() for update in updates],
        [_inet(update.ip_address) for update in updates],
        [update.device_info or "" for update in updates],
        [update.request_signature or "" for update in updates],
        [accepted.body.decode() for accepted in outcomes],
        [update.trace_id or "" for update in updates],
        [score.board for score in scores],
        [score.user_id for score in scores],
        [score.username for score in scores],
        [str(score.score) for score in scores],
        [str(score.version) for score in scores],
        [str(score.reached_at) for score in scores],
        [str(score.last_updated) for score in scores],
        [str(score.total_actions) for score in scores],
        ["t" if score.hidden else "f" for score in scores],
        [player.user_id for player in players],
        [player.username for player in players],
        [str(player.total_actions) for player in players],
        [str(before[player.user_id][0] - len(player.recent) + player.accepted) for player in players],
        ["{" + ",".join(map(rfc3339, player.recent[-player.accepted :])) + "}" for player in players],
        [_action_times_text(player, before[player.user_id][1]) for player in players],
        [str(player.recent[-1]) for player in players],
    )
    return (
        *texts,
        [event.event_id for event in events],
        [event.subject for event in events],
        [event.payload for event in events],
        [event.traceparent for event in events],
        separator,
    )


def _action_times_text(player: PlayerState, had_some: bool) -> str:
    """The limits' times by action type as JSON; empty where there were none and are none."""
    if not player.action_times and not had_some:
        return ""
    seconds = {kind: [time / SECOND for time in times] for kind, times in player.action_times.items()}
    return msgspec.json.encode(seconds).decode()


@lru_cache(maxsize=65_536)
def _inet(address: str | None) -> str:
    """An address as PostgreSQL takes it; empty for none."""
    if address is None:
        return ""
    try:
        # A zone (fe80::1%eth0) means something on one host only, and PostgreSQL refuses it.
        return str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return ""


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
