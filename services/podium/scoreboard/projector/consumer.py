"""The durable consumer: batches of score events from JetStream to the boards.

A message is acknowledged once Redis has its updates. One that fails by itself goes to the dead-letter stream; a store
that is away only makes the batch come again, without limit.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind
from redis.exceptions import DataError, ResponseError

from podium.common.bus import OUTAGE, SCORE_UPDATED, Bus, is_for
from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable
from podium.common.telemetry import context_from, is_sampled, links_to, tracer
from podium.scoreboard import metrics
from podium.scoreboard.events import ScoreUpdate, decode_event
from podium.scoreboard.projector.boards import Boards

DURABLE = "projector"
BATCH_MESSAGES = 64
FETCH_SECONDS = 5.0
"""How long one request for messages waits at the server."""

REDELIVERY_SECONDS = 1.0
"""Delay after which a batch that met an outage comes again."""

_log = structlog.get_logger("podium.projector.consumer")


class Consumer:
    """Feeds the boards until cancelled."""

    def __init__(self, bus: Bus, boards: Boards) -> None:
        self._bus = bus
        self._boards = boards
        self.bound = False
        """Whether the durable consumer was reached and has not been lost since."""
        self.beat = time.monotonic()
        """When the loop last went round (monotonic seconds)."""

    async def run(self) -> None:
        """Fetch and apply for ever; binds again where the consumer or its stream was lost."""
        while True:
            heed_cancellation()
            try:
                subscription = await self._bus.pull(DURABLE, SCORE_UPDATED)
                self.bound = True
                try:
                    await self._consume(subscription)
                finally:
                    self.bound = False
                    await subscription.unsubscribe()
            except (*OUTAGE, StoreUnavailable) as error:
                if self._bus.closed:
                    raise
                metrics.PROJECTOR_OUTAGES.inc()
                self.beat = time.monotonic()
                _log.warning("the event stream is away, trying again", error=str(error) or type(error).__name__)
                await asyncio.sleep(REDELIVERY_SECONDS)

    async def _consume(self, subscription: JetStreamContext.PullSubscription) -> None:
        while True:
            heed_cancellation()
            self.beat = time.monotonic()
            try:
                messages = await subscription.fetch(BATCH_MESSAGES, timeout=FETCH_SECONDS)
            except TimeoutError:
                if not self._bus.connected:
                    raise
                continue
            batch = asyncio.ensure_future(self.handle(messages))
            try:
                await asyncio.shield(batch)
            except asyncio.CancelledError:  # once fetched, a batch is finished even when the process is told to go
                await batch
                raise

    async def handle(self, messages: Sequence[Msg]) -> None:
        """Apply a batch and acknowledge it; on an outage give it back and pause."""
        try:
            decoded = [(message, updates) for message in messages if (updates := await self._decode(message))]
            try:
                await self._apply([update for _, updates in decoded for update in updates])
            except (ResponseError, DataError) as error:
                if len(decoded) > 1:  # find the one at fault
                    for message, _ in decoded:
                        await self.handle([message])
                    return
                await self._bury(decoded[0][0], f"redis: {error}")
                return
            for message, _ in decoded:
                await message.ack()
        except (*OUTAGE, StoreUnavailable) as error:
            metrics.PROJECTOR_OUTAGES.inc()
            _log.warning("a store is away, the batch comes again", error=str(error) or type(error).__name__)
            await self._give_back(messages)
            await asyncio.sleep(REDELIVERY_SECONDS)

    async def _decode(self, message: Msg) -> tuple[ScoreUpdate, ...]:
        if not is_for(message, DURABLE):
            await message.ack()
            return ()
        try:
            updates = decode_event(message.data).updates
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            await self._bury(message, f"malformed event: {error}")
            return ()
        if not updates:
            await message.ack()
        return updates

    async def _bury(self, message: Msg, reason: str) -> None:
        metrics.PROJECTOR_DEAD_LETTERS.inc()
        _log.error("message moved to the dead letters", reason=reason, sequence=message.metadata.sequence.stream)
        await self._bus.dead_letter(DURABLE, message, reason)

    @staticmethod
    async def _give_back(messages: Sequence[Msg]) -> None:
        for message in messages:
            if not message.is_acked:
                try:
                    await message.nak(delay=REDELIVERY_SECONDS)
                except OUTAGE:
                    return  # the server gives it out again after the acknowledgement's time-out

    async def _apply(self, updates: Sequence[ScoreUpdate]) -> None:
        if not updates:
            return
        by_board: defaultdict[str, list[ScoreUpdate]] = defaultdict(list)
        for update in updates:
            by_board[update.board].append(update)
        started = time.perf_counter()
        with tracer.start_as_current_span(
            "project batch",
            kind=SpanKind.CONSUMER,
            links=links_to({one.traceparent for one in updates if is_sampled(one.traceparent)}),
            attributes={"messaging.system": "nats", "messaging.batch.message_count": len(updates)},
        ) as batch:
            link = Link(batch.get_span_context())
            away: StoreUnavailable | None = None
            for board, part in by_board.items():
                begun = time.time_ns()
                try:
                    await self._boards.apply(board, part)
                except StoreUnavailable as error:  # boards on other nodes go on; what they have twice counts once
                    away = error
                    continue
                _trace_updates(part, link, begun)
            if away is not None:
                raise away
        metrics.PROJECTED.inc(len(updates))
        metrics.PROJECTOR_BATCH.observe(len(updates))
        metrics.PROJECTOR_BATCH_SECONDS.observe(time.perf_counter() - started)
        now = datetime.now(UTC)
        for update in updates:
            if update.accepted_at is not None:
                metrics.PROJECTOR_LAG_SECONDS.observe(max(0.0, (now - update.accepted_at).total_seconds()))


def _trace_updates(updates: Sequence[ScoreUpdate], batch: Link, begun: int) -> None:
    """A span in each sampled update's own trace, with the call to Redis below it; times in Unix nanoseconds."""
    ended = time.time_ns()
    for update in updates:
        if not is_sampled(update.traceparent):
            continue
        attributes: dict[str, str | int] = {"podium.board": update.board, "podium.version": update.version}
        span = tracer.start_span(
            "project score",
            context=context_from(update.traceparent),
            kind=SpanKind.CONSUMER,
            links=[batch],
            attributes=attributes,
            start_time=begun,
        )
        redis = tracer.start_span(
            "EVALSHA apply",
            context=trace.set_span_in_context(span),
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "redis", "db.operation.name": "EVALSHA"},
            start_time=begun,
        )
        redis.end(ended)
        span.end(ended)
