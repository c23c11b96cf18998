"""Events of administrative acts: written to the outbox in the act's transaction, sent once it is committed.

The relay of the scores service sends what a crash or an outage left behind, so sending here is only for speed; the
message id is the event's id, so JetStream drops the second of two.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from podium.common.bus import SCORE_UPDATED, Bus
from podium.common.database import outage_mapped
from podium.common.problems import StoreUnavailable
from podium.common.telemetry import current_traceparent
from podium.schema.tables import outbox

ENTRIES_PER_EVENT: Final = 256
"""Users in one event; keeps a message below 100 KB (NATS refuses 1 MB)."""


@dataclass(frozen=True, slots=True)
class ScoreState:
    """The absolute state of one user on one board after the act."""

    board: str
    user_id: str
    username: str
    score: int
    version: int
    reached_at: datetime
    hidden: bool
    total_actions: int


@dataclass(frozen=True, slots=True)
class Written:
    """An event that stands in the outbox, to be sent after COMMIT."""

    event_id: uuid.UUID
    payload: bytes
    traceparent: str | None


def encode_event(event_id: uuid.UUID, states: Sequence[ScoreState], traceparent: str | None) -> bytes:
    """``podium.events.score.updated`` for an act without an action: what belongs to an action is null."""
    return msgspec.json.encode({"eventId": str(event_id), "updates": [_entry(state, traceparent) for state in states]})


def rfc3339(moment: datetime) -> str:
    """A time in UTC with microseconds, as all events have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def write_states(connection: AsyncConnection, states: Iterable[ScoreState]) -> list[Written]:
    """Put the events of ``states`` into the outbox, inside the caller's transaction."""
    traceparent = current_traceparent()
    written = []
    for chunk in _chunks(states):
        event_id = uuid.uuid4()
        written.append(Written(event_id, encode_event(event_id, chunk, traceparent), traceparent))
    if written:
        rows = [
            {"event_id": one.event_id, "subject": SCORE_UPDATED, "payload": one.payload, "traceparent": traceparent}
            for one in written
        ]
        await connection.execute(insert(outbox), rows)
    return written


async def send(engine: AsyncEngine, bus: Bus, written: Sequence[Written]) -> None:
    """Publish committed events and take them out of the outbox; what cannot be sent now stays for the relay."""
    sent = []
    try:
        for one in written:
            await bus.publish(SCORE_UPDATED, one.payload, message_id=str(one.event_id), traceparent=one.traceparent)
            sent.append(one.event_id)
    except StoreUnavailable:
        pass  # counted by the bus; the relay goes on from the outbox
    if not sent:
        return
    try:
        async with outage_mapped("outbox"), engine.begin() as connection:
            await connection.execute(delete(outbox).where(outbox.c.event_id.in_(sent)))
    except StoreUnavailable:
        return  # the relay sends them again, and JetStream drops the repetition


def _entry(state: ScoreState, traceparent: str | None) -> dict[str, Any]:
    return {
        "board": state.board,
        "userId": state.user_id,
        "username": state.username,
        "score": state.score,
        "version": state.version,
        "reachedAt": rfc3339(state.reached_at),
        "hidden": state.hidden,
        "totalActions": state.total_actions,
        "actionId": None,
        "actionType": None,
        "scoreIncrease": None,
        "acceptedAt": None,
        "ipAddress": None,
        "traceparent": traceparent,
    }


def _chunks(states: Iterable[ScoreState]) -> Iterator[list[ScoreState]]:
    remaining = iter(states)
    while chunk := list(islice(remaining, ENTRIES_PER_EVENT)):
        yield chunk
