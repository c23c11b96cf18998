"""Events on their way from the outbox to JetStream.

A commit's events are sent at once by the pod that committed them, outside the request's way. What a crash, or an outage
of NATS, left in the outbox is sent by the relay of whichever pod is there, when it is a second old. Both may send the
same event: JetStream drops the repeat by its message id, and later repeats change nothing (scores are absolute).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec
import structlog
from opentelemetry import trace

from podium.common.bus import Bus
from podium.common.database import DRIVER_ERRORS, is_outage
from podium.common.loops import heed_cancellation
from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.telemetry import context_from, is_sampled, links_to, tracer
from podium.scores.metrics import OUTBOX_AGE, OUTBOX_PUBLISHED
from podium.scores.store import Event, OutboxStore

RELAY_INTERVAL_SECONDS = 0.5
"""How often the relay looks; with the age of one second, what a crash left is sent within two."""

RELAY_LIMIT = 64
"""Events that the relay takes at once."""

DELETE_INTERVAL_SECONDS = 0.05
"""How long acknowledged events gather before they are deleted together."""

MAX_IN_FLIGHT = 64
"""Events being sent at once by this process; what is beyond waits for the relay."""

_log = structlog.get_logger("podium.scores.outbox")


class Outbox:
    """Sends events; ``bus`` gives the connection to NATS, None until there is one."""

    def __init__(self, store: OutboxStore, bus: Callable[[], Bus | None]) -> None:
        self._store = store
        self._bus = bus
        self._sending: set[asyncio.Task[None]] = set()
        self._acknowledged: list[UUID] = []
        self._some_acknowledged = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self.store_reached = False
        """Whether the relay has reached the database once."""

    def start(self) -> None:
        """Start the relay and the deletion, in the running loop."""
        self._loops = [
            asyncio.create_task(self._relay_forever(), name="outbox-relay"),
            asyncio.create_task(self._delete_forever(), name="outbox-delete"),
        ]

    @property
    def alive(self) -> bool:
        """Whether the relay and the deletion run."""
        return bool(self._loops) and not any(loop.done() for loop in self._loops)

    def send(self, events: Sequence[Event]) -> None:
        """Begin to send committed events; never waits and never fails: the relay has what is not sent."""
        bus = self._bus()
        if bus is None or not bus.connected:
            return
        for event in events:
            if len(self._sending) >= MAX_IN_FLIGHT:
                return
            task = asyncio.create_task(self._send(bus, event))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        """Wait for what is being sent, delete what was acknowledged, stop."""
        if self._sending:
            await asyncio.wait(self._sending)
        for loop in self._loops:
            loop.cancel()
        for loop in self._loops:
            with suppress(asyncio.CancelledError):
                await loop
        await self._delete()

    async def _send(self, bus: Bus, event: Event) -> None:
        try:
            await publish(bus, event)
        except StoreUnavailable:
            return
        OUTBOX_PUBLISHED.labels("commit").inc()
        self._acknowledged.append(event.event_id)
        self._some_acknowledged.set()

    async def _delete_forever(self) -> None:
        while True:
            heed_cancellation()
            await self._some_acknowledged.wait()
            await asyncio.sleep(DELETE_INTERVAL_SECONDS)
            await self._delete()

    async def _delete(self) -> None:
        self._some_acknowledged.clear()
        event_ids, self._acknowledged = self._acknowledged, []
        if not event_ids:
            return
        try:
            await self._store.delete(event_ids)
        except (OSError, TimeoutError, *DRIVER_ERRORS) as error:
            # The rows stay, the relay sends them once more and deletes them then.
            _note_outage(error, "outbox_delete")

    async def _relay_forever(self) -> None:
        while True:
            heed_cancellation()
            full = False
            try:
                bus = self._bus()
                if bus is not None and bus.connected:
                    full = await self._store.relay(self._publish_all, RELAY_LIMIT) == RELAY_LIMIT
                OUTBOX_AGE.set(await self._store.oldest_age())
                self.store_reached = True
            except (OSError, TimeoutError, *DRIVER_ERRORS) as error:
                full = False
                _note_outage(error, "outbox_relay")
            if not full:
                await asyncio.sleep(RELAY_INTERVAL_SECONDS)

    async def _publish_all(self, events: Sequence[Event]) -> Sequence[UUID]:
        bus = self._bus()
        if bus is None:
            return []
        results = await asyncio.gather(*(publish(bus, event) for event in events), return_exceptions=True)
        sent = []
        for event, result in zip(events, results, strict=True):
            if result is None:
                sent.append(event.event_id)
            elif not isinstance(result, StoreUnavailable):
                raise result
        OUTBOX_PUBLISHED.labels("relay").inc(len(sent))
        return sent


async def publish(bus: Bus, event: Event) -> None:
    """Store one event in JetStream. Raises StoreUnavailable.

    The sending is one span that links to every sampled update in it, and each of these gets a span in its own trace.
    """
    sampled = event.traceparents or _sampled_in(event)
    started = time.time_ns()
    with tracer.start_as_current_span(
        "publish batch",
        context=trace.set_span_in_context(trace.INVALID_SPAN),
        kind=trace.SpanKind.PRODUCER,
        links=links_to(sampled),
        attributes={"messaging.system": "nats", "messaging.destination.name": event.subject},
    ) as span:
        await bus.publish(event.subject, event.payload, message_id=str(event.event_id), traceparent=event.traceparent)
    link = [trace.Link(span.get_span_context())]
    for traceparent in sampled:
        one = tracer.start_span(
            "publish score.updated",
            context=context_from(traceparent),
            kind=trace.SpanKind.PRODUCER,
            links=link,
            start_time=started,
            attributes={"messaging.system": "nats", "messaging.destination.name": event.subject},
        )
        one.end()


def _sampled_in(event: Event) -> Sequence[str]:
    """The sampled updates of an event that another process wrote."""
    if not is_sampled(event.traceparent):
        return ()
    try:
        updates = msgspec.json.decode(event.payload).get("updates", [])
        return tuple(dict.fromkeys(one["traceparent"] for one in updates if one.get("traceparent")))
    except (msgspec.DecodeError, AttributeError, TypeError):
        return ()


def _note_outage(error: BaseException, operation: str) -> None:
    if not is_outage(error):
        _log.error("the outbox could not be worked on", operation=operation, exc_info=error)
        return
    STORE_FAILURES.labels("postgres", operation).inc()
    _log.warning("database is away", operation=operation, error=type(error).__name__)
