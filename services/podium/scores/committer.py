"""Commits one batch: traced, retried where that can help, taken apart where one update spoils it for the others."""

import time
from collections.abc import Sequence

import asyncpg
import msgspec
import structlog
from opentelemetry import trace

from podium.common.database import is_outage
from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.telemetry import context_from, format_traceparent, links_to, tracer
from podium.scores.answers import REPLAYED_NONCE
from podium.scores.domain import Outcome, Update
from podium.scores.metrics import COMMIT_SECONDS, SINGLES
from podium.scores.nonces import NonceStore
from podium.scores.outbox import Outbox
from podium.scores.store import Committed, ScoreStore

ATTEMPTS = 3
"""Tries of a batch that PostgreSQL rolled back because of others (deadlock, serialization)."""

_log = structlog.get_logger("podium.scores.commit")


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one update, and the span of the commit that it shared."""

    outcome: Outcome
    commit_span: trace.SpanContext


_REPLAYED = Settled(REPLAYED_NONCE, trace.INVALID_SPAN_CONTEXT)


class Committer:
    """Spends nonces, writes batches and starts their events on the way."""

    def __init__(self, store: ScoreStore, outbox: Outbox, nonces: NonceStore) -> None:
        self._store = store
        self._outbox = outbox
        self._nonces = nonces

    async def commit(self, updates: Sequence[Update]) -> Sequence[Settled | BaseException]:
        """Settle a batch. Raises StoreUnavailable for all of it while PostgreSQL is away.

        An update that fails for a reason of its own gets its exception, the others their outcome.
        """
        fresh = await self._spend_nonces(updates)
        if all(fresh):
            return await self._commit(updates)
        rest = [update for update, is_fresh in zip(updates, fresh, strict=True) if is_fresh]
        settled = iter(await self._commit(rest) if rest else ())
        return [next(settled) if is_fresh else _REPLAYED for is_fresh in fresh]

    async def _spend_nonces(self, updates: Sequence[Update]) -> Sequence[bool]:
        """Which updates may go on."""
        keys = [update.nonce for update in updates if update.nonce is not None]
        if not keys:
            return [True] * len(updates)
        fresh = iter(await self._nonces.spend_all(keys))
        return [update.nonce is None or next(fresh) for update in updates]

    async def _commit(self, updates: Sequence[Update]) -> Sequence[Settled | BaseException]:
        sampled = [update.traceparent for update in updates if update.traceparent]
        started = time.time_ns()
        # The commit belongs to all its updates and to none: a root span that links to them.
        with tracer.start_as_current_span(
            "commit batch",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            links=links_to(sampled),
            attributes={"podium.batch.size": len(updates)},
        ) as span:
            context = span.get_span_context()
            try:
                with COMMIT_SECONDS.time():
                    committed = await self._attempt(updates, format_traceparent(context))
            except StoreUnavailable:
                raise
            except Exception as error:
                if len(updates) == 1:
                    _log.error("an update could not be committed", exc_info=error)
                    return [error]
                _log.warning("a batch failed, its updates go one by one", error=type(error).__name__)
                SINGLES.inc()
                return [(await self._commit([update]))[0] for update in updates]
        self._outbox.send(committed.events)
        _trace_each(sampled, context, started, len(updates))
        return [Settled(outcome, context) for outcome in committed.outcomes]

    async def _attempt(self, updates: Sequence[Update], traceparent: str) -> Committed:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._store.commit(updates, traceparent)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                if attempt == ATTEMPTS:
                    raise
            except Exception as error:
                if not is_outage(error):
                    raise
                _log.warning("database is away", error=type(error).__name__)
                STORE_FAILURES.labels("postgres", "commit").inc()
                await self._store.reconnect()
                raise StoreUnavailable("postgres") from error
        raise AssertionError("unreachable")


def _trace_each(sampled: Sequence[str], commit: trace.SpanContext, started: int, size: int) -> None:
    """Show the shared transaction in the trace of each sampled update, as long as it took."""
    link = [trace.Link(commit)]
    for traceparent in sampled:
        span = tracer.start_span(
            "postgres transaction",
            context=context_from(traceparent),
            kind=trace.SpanKind.CLIENT,
            links=link,
            start_time=started,
            attributes={"db.system.name": "postgresql", "podium.batch.size": size},
        )
        span.end()
