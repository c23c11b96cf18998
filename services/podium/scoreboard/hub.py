"""The fan-out: newest snapshots to all watchers of this process. Knows no framework and no store.

A broadcast is made once as bytes and written to every watcher that can take it. Changes that come faster than the tick
are conflated before they are broadcast, and again for each watcher that is slow.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.trace import Link

from podium.common.telemetry import context_from, links_to, tracer
from podium.scoreboard import metrics
from podium.scoreboard.audience import Audience
from podium.scoreboard.domain import Snapshot
from podium.scoreboard.representations import Published
from podium.scoreboard.tick import next_due
from podium.scoreboard.watcher import Watcher

SLICE = 512
"""Watchers served in one go; between slices other work of the loop has its turn."""

MAX_TRACES = 256
"""Traces of conflated snapshots that are carried to the broadcast that stands for them."""

MAX_LATENCY_SECONDS = 60.0
"""Older tops are re-reads after an outage, not a latency."""


class Hub:
    """All watchers of this process and what they watch; a board is broadcast once in ``tick`` seconds at most."""

    def __init__(self, *, tick: float = 0.05) -> None:
        self._tick = tick
        self.watchers: set[Watcher] = set()
        self.busy: set[Watcher] = set()
        self._audiences: defaultdict[str, Audience] = defaultdict(Audience)
        self._published: dict[str, Published] = {}
        self._waiting: dict[str, Snapshot] = {}
        self._traces: defaultdict[str, list[str]] = defaultdict(list)
        self._due: dict[str, float] = {}
        self._number = 0
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self.watchers)

    # Watchers

    def join(self, watcher: Watcher, boards: Iterable[str]) -> None:
        """Take a new watcher and send it each board's snapshot at once."""
        self.watchers.add(watcher)
        metrics.CONNECTIONS.labels(watcher.kind, watcher.agent).inc()
        metrics.CONNECTIONS_OPENED.labels(watcher.kind).inc()
        self.subscribe(watcher, boards)

    def leave(self, watcher: Watcher) -> bool:
        """Forget a watcher; False where it had left."""
        if watcher not in self.watchers:
            return False
        self.watchers.discard(watcher)
        self.busy.discard(watcher)
        metrics.CONNECTIONS.labels(watcher.kind, watcher.agent).dec()
        for board in watcher.boards:
            self._audiences[board].remove(watcher)
        return True

    def subscribe(self, watcher: Watcher, boards: Iterable[str]) -> None:
        """Add boards and answer with a snapshot of each, known to the watcher or not."""
        for board in boards:
            if board not in watcher.boards:
                watcher.boards = (*watcher.boards, board)
            published = self._published.get(board)
            if watcher.busy_since is not None:
                if published is not None:
                    watcher.missed_from = min(watcher.missed_from, published.number - 1)
                continue
            self._audiences[board].add(watcher)
            if published is not None:  # else the first snapshot is on its way
                self._send(watcher, published)

    def unsubscribe(self, watcher: Watcher, boards: Iterable[str]) -> None:
        """Take boards away."""
        gone = frozenset(boards)
        for board in gone.intersection(watcher.boards):
            self._audiences[board].remove(watcher)
        watcher.boards = tuple(board for board in watcher.boards if board not in gone)

    def blocked(self, watcher: Watcher) -> None:
        """The watcher's socket stopped taking bytes."""
        if watcher.busy_since is not None or watcher not in self.watchers:
            return
        watcher.busy_since = time.monotonic()
        watcher.missed_from = self._number
        self.busy.add(watcher)
        for board in watcher.boards:
            if self._audiences[board].remove(watcher):  # the running broadcast had not come to it
                watcher.missed_from = self._number - 1

    def drained(self, watcher: Watcher) -> None:
        """The watcher's socket took all it had: it gets the newest of what it missed."""
        if watcher.busy_since is None or watcher not in self.watchers:
            return
        watcher.busy_since = None
        self.busy.discard(watcher)
        for board in watcher.boards:
            self._audiences[board].add(watcher)
        held = [self._published[board] for board in watcher.boards if board in self._published]
        missed = sorted((one.number, one) for one in held if one.number > watcher.missed_from)
        for number, published in missed:
            if watcher.busy_since is not None:  # full again: the rest when it has room
                watcher.missed_from = number - 1
                return
            if watcher.is_open:
                self._send(watcher, published)

    def _send(self, watcher: Watcher, published: Published) -> None:
        watcher.send(published)
        metrics.DELIVERIES.inc()

    # Snapshots

    def holds(self, board: str) -> bool:
        """Whether a new watcher of the board gets a snapshot at once."""
        return board in self._published

    def offer(self, snapshot: Snapshot) -> None:
        """Have a snapshot, newer than all before, broadcast; one that still waits is skipped."""
        board = snapshot.board
        if board in self._waiting:
            metrics.CONFLATED.inc()
        self._waiting[board] = snapshot
        traces = self._traces[board]
        traces.extend(snapshot.traces[: MAX_TRACES - len(traces)])
        self._wake.set()

    def revise(self, snapshot: Snapshot) -> None:
        """Give new watchers this one instead of the held snapshot of the same age; nobody is sent it twice."""
        held = self._published.get(snapshot.board)
        if held is not None and held.snapshot.age == snapshot.age and held.snapshot.rankings != snapshot.rankings:
            self._published[snapshot.board] = Published(snapshot, held.number)

    async def broadcast_loop(self) -> None:
        """Broadcast what is offered: the first change at once, then at most one a tick and board."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                now = time.monotonic()
                due = {board: self._due.get(board, 0.0) for board in self._waiting}
                for board in [board for board, at in due.items() if at <= now]:
                    self._due[board] = next_due(due[board], now, self._tick)
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
            published = self._published[snapshot.board] = Published(snapshot, self._number)
            skipped = sum(snapshot.board in watcher.boards for watcher in self.busy)
            delivered = await _serve(self._audiences[snapshot.board], published)
            span.set_attribute("podium.deliveries", delivered)
            link = Link(span.get_span_context())
        metrics.DELIVERIES.inc(delivered)
        metrics.SKIPPED.inc(skipped)
        metrics.BROADCAST_SECONDS.observe(time.perf_counter() - started)
        _observe_latency(snapshot)
        _trace_pushes(snapshot, traces, link, begun)


async def _serve(audience: Audience, published: Published) -> int:
    """Give a snapshot to an audience, with room for other work between slices; how many got it."""
    delivered = 0
    lanes = audience.lanes()
    for lane, _ in lanes:
        lane.begin()
    try:
        while unserved := [(lane, direct) for lane, direct in lanes if lane.pending]:
            if delivered:
                await asyncio.sleep(0)
            lane, direct = unserved[0]
            delivered += lane.step(published, SLICE, direct=direct)
    finally:
        for lane, _ in lanes:
            lane.finish()
    return delivered


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
