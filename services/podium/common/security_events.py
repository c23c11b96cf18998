"""Security events: best effort, never in a request's way, bounded."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import msgspec
from prometheus_client import Counter

from podium.common.bus import SECURITY_PREFIX, Bus
from podium.common.loops import heed_cancellation
from podium.common.outbox import rfc3339
from podium.common.problems import StoreUnavailable
from podium.common.telemetry import current_trace_id

MAX_WAITING: Final = 1024
"""Events that may wait to be sent; what is beyond is dropped and counted."""

SECURITY_EVENTS = Counter("podium_security_events_total", "Security events by kind and fate", ["kind", "fate"])


class SecurityEvent(msgspec.Struct, frozen=True, rename="camel"):
    """What happened to whom. ``at`` is an RFC 3339 time; there is never a secret in it."""

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

    def report(
        self,
        kind: str,
        *,
        user_id: str = "",
        client_id: str = "",
        sid: str = "",
        ip_address: str = "",
        detail: str = "",
        trace_id: str | None = None,
    ) -> None:
        """Queue an event of ``podium.events.security.<kind>``; dropped where the queue is full.

        ``trace_id`` is that of the current span unless given.
        """
        event = SecurityEvent(
            event_id=str(uuid4()),
            kind=kind,
            user_id=user_id,
            client_id=client_id,
            sid=sid,
            ip_address=ip_address,
            at=rfc3339(datetime.now(UTC)),
            trace_id=trace_id or current_trace_id(),
            detail=detail,
        )
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            SECURITY_EVENTS.labels(kind, "dropped").inc()

    async def run(self) -> None:
        """Send events for ever; those that NATS does not take are dropped and counted."""
        while True:
            heed_cancellation()
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
