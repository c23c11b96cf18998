"""Security events of this service: best effort, never in a request's way, bounded."""

import asyncio
from collections.abc import Callable
from typing import Literal
from uuid import uuid4

import msgspec

from podium.common.bus import SECURITY_PREFIX, Bus
from podium.common.problems import StoreUnavailable
from podium.common.tokens import Claims
from podium.scores.metrics import SECURITY_EVENTS

MAX_WAITING = 1024
"""Events that may wait to be sent; what is beyond is dropped and counted."""

Kind = Literal["bad-signature", "replayed-nonce", "banned-attempt"]


class SecurityEvent(msgspec.Struct, frozen=True, rename="camel"):
    """What happened to whom. ``at`` is an RFC 3339 time."""

    event_id: str
    kind: str
    user_id: str
    client_id: str
    sid: str
    ip_address: str
    at: str
    trace_id: str
    detail: str


class SecurityEvents:
    """A bounded queue of events and the loop that sends them."""

    def __init__(self, bus: Callable[[], Bus | None]) -> None:
        self._bus = bus
        self._queue: asyncio.Queue[SecurityEvent] = asyncio.Queue(MAX_WAITING)

    def report(self, kind: Kind, claims: Claims, *, ip_address: str, at: str, trace_id: str, detail: str) -> None:
        """Queue an event about the user of ``claims``; dropped where the queue is full."""
        event = SecurityEvent(
            event_id=str(uuid4()),
            kind=kind,
            user_id=claims.sub,
            client_id=claims.client_id,
            sid=claims.sid,
            ip_address=ip_address,
            at=at,
            trace_id=trace_id,
            detail=detail,
        )
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            SECURITY_EVENTS.labels(kind, "dropped").inc()

    async def run(self) -> None:
        """Send events for ever; those that NATS does not take are dropped and counted."""
        while True:
            event = await self._queue.get()
            bus = self._bus()
            try:
                if bus is None or not bus.connected:
                    raise StoreUnavailable("nats")
                await bus.publish(SECURITY_PREFIX + event.kind, msgspec.json.encode(event), message_id=event.event_id)
            except StoreUnavailable:
                SECURITY_EVENTS.labels(event.kind, "dropped").inc()
            else:
                SECURITY_EVENTS.labels(event.kind, "sent").inc()
