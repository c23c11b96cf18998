"""The fan-out: newest snapshots to all watchers of this process. Knows no framework, no store and no socket.

A broadcast is made once as bytes and written to every watcher that can take it. Changes that come faster than the tick
are conflated before they are broadcast, and again for each watcher that is slow.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import structlog
from opentelemetry import trace
from opentelemetry.trace import Link

from podium.common.telemetry import context_from, links_to, tracer
from podium.scoreboard import metrics
from podium.scoreboard.domain import Snapshot, timestamp
from podium.scoreboard.representations import Published, document
from podium.scoreboard.watcher import Watcher

SLICE = 512
"""Watchers served in one go; between slices other work of the loop has its turn."""

SWEEP_SECONDS = 0.5
"""How often tokens, slow and silent watchers are looked at."""

MAX_TRACES = 256
"""Traces of conflated snapshots that are carried to the broadcast that stands for them."""

MAX_LATENCY_SECONDS = 60.0
"""Older tops are re-reads after an outage, not a latency."""

GOING_AWAY, TOKEN_EXPIRED, TOO_SLOW = 1001, 4001, 4008
"""Close codes: RFC 6455, section 7.4.1, and this project's."""

_log = structlog.get_logger("podium.scoreboard.hub")


class Hub:
    """All watchers of this process. Times in seconds; ``tick`` is the least time between broadcasts of a board."""

    def __init__(self, *, tick: float = 0.05, heartbeat: float = 25.0, slow: float = 10.0) -> None:
        self._tick = tick
        self._heartbeat = heartbeat
        self._slow = slow
        self._watchers: set[Watcher] = set()
        self._by_board: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._by_session: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._published: dict[str, Published] = {}
        self._waiting: dict[str, Snapshot] = {}
        self._traces: defaultdict[str, list[str]] = defaultdict(list)
        self._due: dict[str, float] = {}
        self._number = 0
        self._wake = asyncio.Event()
        self.draining = False

    def __len__(self) -> int:
        return len(self._watchers)

    # Watchers

    def join(self, watcher: Watcher, boards: Iterable[str]) -> None:
        """Take a new watcher and send it each board's snapshot at once."""
        self._watchers.add(watcher)
        metrics.CONNECTIONS.labels(watcher.kind).inc()
        self.subscribe(watcher, boards)

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher; harmless for one that has left."""
        if watcher not in self._watchers:
            return
        self._watchers.discard(watcher)
        metrics.CONNECTIONS.labels(watcher.kind).dec()
        for board in watcher.boards:
            self._by_board[board].discard(watcher)
        self._forget_session(watcher)

    def subscribe(self, watcher: Watcher, boards: Iterable[str]) -> None:
        """Add boards and answer with a snapshot of each, known to the watcher or not."""
        for board in boards:
            watcher.boards.add(board)
            self._by_board[board].add(watcher)
            published = self._published.get(board)
            if published is None:
                continue  # the first snapshot is on its way
            if watcher.busy_since is not None:
                watcher.stale.add(board)
            else:
                self._send(watcher, published)

    def unsubscribe(self, watcher: Watcher, boards: Iterable[str]) -> None:
        """Take boards away."""
        for board in boards:
            watcher.boards.discard(board)
            watcher.stale.discard(board)
            self._by_board[board].discard(watcher)

    def authenticate(self, watcher: Watcher, session: str, expires: float) -> None:
        """Bind a watcher to a session until ``expires`` (Unix seconds)."""
        self._forget_session(watcher)
        watcher.session, watcher.expires = session, expires
        self._by_session[session].add(watcher)

    def _forget_session(self, watcher: Watcher) -> None:
        if watcher.session is not None:
            members = self._by_session[watcher.session]
            members.discard(watcher)
            if not members:
                del self._by_session[watcher.session]

    def revoke(self, session: str) -> None:
        """Close what the session opened."""
        for watcher in list(self._by_session.get(session, ())):
            self._close(watcher, TOKEN_EXPIRED, "the session was revoked")

    def blocked(self, watcher: Watcher) -> None:
        """The watcher's socket stopped taking bytes."""
        watcher.busy_since = time.monotonic()

    def drained(self, watcher: Watcher) -> None:
        """The watcher's socket took all it had: it gets the newest of what it missed."""
        watcher.busy_since = None
        while watcher.stale and watcher.busy_since is None and watcher.is_open:
            published = self._published.get(watcher.stale.pop())
            if published is not None:
                self._send(watcher, published)

    def _send(self, watcher: Watcher, published: Published) -> None:
        watcher.sent[published.snapshot.board] = published.number
        watcher.send(published)
        metrics.DELIVERIES.inc()

    def _close(self, watcher: Watcher, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        metrics.CLOSED.labels(str(code)).inc()
        self.leave(watcher)
        watcher.close(code, reason, retry_after_ms)

    # Snapshots

    def offer(self, snapshot: Snapshot) -> None:
        """Have a snapshot, newer than all before, broadcast; one that still waits is skipped."""
        board = snapshot.board
        self._waiting[board] = snapshot
        traces = self._traces[board]
        traces.extend(snapshot.traces[: MAX_TRACES - len(traces)])
        self._wake.set()

    async def broadcast_loop(self) -> None:
        """Broadcast what is offered: the first change at once, then at most one a tick and board."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                now = time.monotonic()
                due = {board: self._due.get(board, 0.0) for board in self._waiting}
                for board in [board for board, at in due.items() if at <= now]:
                    self._due[board] = now + self._tick
                    await self._broadcast(self._waiting.pop(board), self._traces.pop(board, []))
                if self._waiting:
                    first = min(self._due.get(board, 0.0) for board in self._waiting)
                    await asyncio.sleep(max(0.0, first - time.monotonic()))

    async def _broadcast(self, snapshot: Snapshot, traces: Sequence[str]) -> None:
        started, begun = time.perf_counter(), time.time_ns()
        with tracer.start_as_current_span(
            "broadcast top",
            links=links_to(traces),
            attributes={"podium.board": snapshot.board, "podium.epoch": snapshot.epoch},
        ) as span:
            self._number += 1
            published = Published(snapshot, self._number)
            self._published[snapshot.board] = published
            delivered = conflated = 0
            # A copy: watchers come and go between slices. Those that come have the new snapshot already.
            watchers = list(self._by_board[snapshot.board])
            for start in range(0, len(watchers), SLICE):
                if start:
                    await asyncio.sleep(0)
                for watcher in watchers[start : start + SLICE]:
                    if snapshot.board not in watcher.boards or watcher.sent.get(snapshot.board) == published.number:
                        continue
                    if watcher.busy_since is not None:
                        watcher.stale.add(snapshot.board)
                        conflated += 1
                    elif watcher.is_open:
                        watcher.sent[snapshot.board] = published.number
                        watcher.send(published)
                        delivered += 1
            span.set_attribute("podium.deliveries", delivered)
            link = Link(span.get_span_context())
        metrics.DELIVERIES.inc(delivered)
        metrics.CONFLATED.inc(conflated)
        metrics.BROADCAST_SECONDS.observe(time.perf_counter() - started)
        _observe_latency(snapshot)
        _trace_pushes(snapshot, traces, link, begun)

    # Life and death

    async def heartbeat_loop(self) -> None:
        """A sign of life to every watcher, by one timer for all."""
        while True:
            await asyncio.sleep(self._heartbeat)
            await self.beat()

    async def beat(self) -> None:
        """One heartbeat; a busy watcher has snapshots waiting, which say the same."""
        heartbeat = document({"type": "heartbeat", "time": timestamp(datetime.now(UTC))})
        watchers = list(self._watchers)
        for start in range(0, len(watchers), SLICE):
            for watcher in watchers[start : start + SLICE]:
                if watcher.busy_since is None and watcher.is_open:
                    watcher.beat(heartbeat)
            await asyncio.sleep(0)

    async def sweep_loop(self) -> None:
        """Look at the watchers for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(time.monotonic(), time.time())

    def sweep(self, now: float, unix: float) -> None:
        """Close watchers whose token expired, drop the slow and the silent. ``now`` monotonic, ``unix`` Unix time."""
        for watcher in list(self._watchers):
            if watcher.expires is not None and watcher.expires <= unix:
                self._close(watcher, TOKEN_EXPIRED, "the token expired")
            elif watcher.busy_since is not None and now - watcher.busy_since > self._slow:
                self._close(watcher, TOO_SLOW, "too slow")
            elif now - watcher.last_frame > 2 * self._heartbeat:
                self.leave(watcher)
                watcher.abort()

    async def drain(self, seconds: float) -> None:
        """Send all watchers away, spread over ``seconds``, each with a time of its own after which to come back."""
        self.draining = True
        watchers = list(self._watchers)
        random.shuffle(watchers)
        _log.info("sending watchers away", watchers=len(watchers), seconds=seconds)
        started = time.monotonic()
        for position, watcher in enumerate(watchers):
            wait = started + seconds * position / len(watchers) - time.monotonic()
            if wait > 0.005:
                await asyncio.sleep(wait)
            if watcher in self._watchers:
                retry = random.randrange(100, 2000)  # noqa: S311 - spreads load, guards nothing
                self._close(watcher, GOING_AWAY, f'{{"retryAfterMs":{retry}}}', retry)
        for watcher in list(self._watchers):  # those that were let in before the listener knew
            self._close(watcher, GOING_AWAY, '{"retryAfterMs":500}', 500)


def _observe_latency(snapshot: Snapshot) -> None:
    try:
        updated = datetime.fromisoformat(snapshot.last_updated)
    except ValueError:
        return
    seconds = (datetime.now(UTC) - updated).total_seconds()
    if seconds < MAX_LATENCY_SECONDS:
        metrics.COMMIT_TO_PUSH_SECONDS.observe(max(0.0, seconds))


def _trace_pushes(snapshot: Snapshot, traces: Sequence[str], broadcast: Link, begun: int) -> None:
    """A span in each sampled update's own trace; ``begun`` in Unix nanoseconds."""
    ended = time.time_ns()
    for traceparent in traces:
        span = tracer.start_span(
            "push top",
            context=context_from(traceparent),
            kind=trace.SpanKind.PRODUCER,
            links=[broadcast],
            attributes={
                "podium.board": snapshot.board,
                "podium.epoch": snapshot.epoch,
                "podium.version": snapshot.version,
            },
            start_time=begun,
        )
        span.end(ended)
