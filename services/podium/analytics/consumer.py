"""The durable consumer ``analytics``: shared by all pods, counts each event once.

An outage is not a poison message: while PostgreSQL is away messages go back and the loop pauses; only what fails by
itself goes to the dead-letter stream.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from opentelemetry import trace
from sqlalchemy.exc import DBAPIError

from podium.analytics.domain import Event, MalformedEvent, parse_event
from podium.analytics.metrics import EVENTS, POINTS, UPDATES
from podium.analytics.store import AnalyticsStore
from podium.common.bus import OUTAGE, SCORE_UPDATED, Bus, is_for
from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable
from podium.common.telemetry import links_to, tracer

CONSUMER: Final = "analytics"
"""Name of the durable consumer."""

BATCH: Final = 64
"""Messages taken at once; each holds a commit of up to 256 updates."""

FETCH_SECONDS: Final = 5.0
"""How long one request for messages waits for the first."""

PAUSE_SECONDS: Final = 1.0
"""How long the loop rests, and a message stays away, after an outage."""

MAX_LINKS: Final = 128
"""Links from a batch's span to its updates (OpenTelemetry's default bound)."""

_log = structlog.get_logger("podium.analytics.consumer")


class Consumer:
    """Counts events for ever."""

    def __init__(self, store: AnalyticsStore) -> None:
        self._store = store
        self.attached = False
        """Whether the durable consumer was reached once."""

    async def run(self, bus: Bus) -> None:
        """Consume for ever; attaches anew whenever NATS, or the consumer, was away."""
        while True:
            heed_cancellation()
            try:
                await bus.ensure_streams()
                subscription = await bus.pull(CONSUMER, SCORE_UPDATED)
                self.attached = True
                await self._consume(bus, subscription)
            except (*OUTAGE, StoreUnavailable) as error:
                _log.warning("events cannot be consumed, trying again", error=str(error) or type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _consume(self, bus: Bus, subscription: JetStreamContext.PullSubscription) -> None:
        while True:
            heed_cancellation()
            try:
                messages = await subscription.fetch(BATCH, timeout=FETCH_SECONDS)
            except NatsTimeout:
                if not bus.connected:
                    raise
                await subscription.consumer_info()  # raises if the consumer is gone
                continue
            await self._handle(bus, messages)

    async def _handle(self, bus: Bus, messages: Sequence[Msg]) -> None:
        readable: list[tuple[Msg, Event]] = []
        for message in messages:
            if not is_for(message, CONSUMER):
                await message.ack()
                continue
            try:
                readable.append((message, parse_event(message.data)))
            except MalformedEvent as error:
                await self._bury(bus, message, str(error))
        if not readable:
            return
        links = links_to([one for _, event in readable for one in event.traceparents][:MAX_LINKS])
        with tracer.start_as_current_span(
            "count updates",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=trace.SpanKind.CONSUMER,
            links=links,
            attributes={"messaging.system": "nats", "messaging.batch.message_count": len(readable)},
        ):
            await self._count(bus, readable)

    async def _count(self, bus: Bus, readable: Sequence[tuple[Msg, Event]]) -> None:
        try:
            fresh = await self._store.count([event for _, event in readable])
        except StoreUnavailable:
            await asyncio.gather(*(message.nak(delay=PAUSE_SECONDS) for message, _ in readable))
            await asyncio.sleep(PAUSE_SECONDS)
            return
        except DBAPIError as error:
            if len(readable) == 1:
                await self._bury(bus, readable[0][0], f"cannot be counted: {type(error.orig).__name__}")
                return
            for one in readable:  # one of them spoils the rest
                await self._count(bus, [one])
            return
        EVENTS.labels("counted").inc(len(fresh))
        EVENTS.labels("repeated").inc(len(readable) - len(fresh))
        for event in fresh:
            for update in event.updates:
                UPDATES.labels(update.board, update.action_type).inc()
                POINTS.labels(update.board).inc(max(0, update.points))
        await asyncio.gather(*(message.ack() for message, _ in readable))

    async def _bury(self, bus: Bus, message: Msg, reason: str) -> None:
        await bus.dead_letter(CONSUMER, message, reason)
        EVENTS.labels("dead-lettered").inc()
        _log.error("event dead-lettered", sequence=message.metadata.sequence.stream, reason=reason)
