"""Compare a board's ranking with PostgreSQL, user by user, and set right what differs.

The walk reads a replica and asks Redis for each chunk which rows it holds otherwise. Most that differ are updates on
their way, so suspects are judged only once everything that was committed before the second look has gone through the
outbox, the event stream and a projector. What then still differs has drifted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog

from podium.common.bus import OUTAGE, SCORE_UPDATED, Bus
from podium.scoreboard.audit_store import AuditStore, Held
from podium.scoreboard.domain import Row
from podium.scoreboard.layout import places
from podium.scoreboard.projector.source import ScoreSource, version_of
from podium.scoreboard.store import BoardState, Superseded

DURABLE: Final = "projector"
"""The projectors' consumer."""

IDLE_PER_BUSY: Final = 3.0
"""The walk rests three times as long as it worked: it takes a quarter of a core at most."""

SETTLE_SECONDS: Final = 60.0
"""How long the updates on their way may take; where they take longer nothing is judged this time."""

SETTLE_LOOK_SECONDS: Final = 0.2

JUDGED_AT_ONCE: Final = 500

MANY: Final = 10_000
"""So many users that differ are not healed one by one: the ranking is built anew."""

_log = structlog.get_logger("podium.projector.drift")


@dataclass(frozen=True, slots=True)
class Found:
    """Outcome of a comparison: users looked at, how many had drifted, how many of these are right again."""

    users: int
    drifted: int
    healed: int


class Pipeline:
    """The way of an update from its commit into the ranking."""

    def __init__(self, source: ScoreSource, bus: Bus) -> None:
        self._source = source
        self._bus = bus

    async def passed(self, event: int) -> bool:
        """Wait until all events up to ``event`` of the outbox were projected; false where that takes too long."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await _until(lambda: self._source.sent(event))
                last = await self._bus.last_sequence(SCORE_UPDATED)
                await _until(lambda: self._projected(last))
        except OUTAGE:
            return False
        return True

    async def _projected(self, sequence: int) -> bool:
        return await self._bus.acknowledged(DURABLE) >= sequence


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await condition():
            return
        await asyncio.sleep(SETTLE_LOOK_SECONDS)


class DriftCheck:
    """Compares boards; ``passed`` waits for updates on their way."""

    def __init__(
        self,
        source: ScoreSource,
        store: AuditStore,
        passed: Callable[[int], Awaitable[bool]],
    ) -> None:
        self._source = source
        self._store = store
        self._passed = passed

    async def check(self, board: str, state: BoardState) -> Found | None:
        """Compare a board whose ranking is whole, and heal what differs.

        None where it cannot be told: another process compares it, the ranking is being replaced, or updates take too
        long. Raises StoreUnavailable.
        """
        if state.epoch is None or state.building is not None:
            return None
        async with self._source.checking(board) as locked:
            if not locked:
                return None
            try:
                found = await _Comparison(self._source, self._store, self._passed, board, state).run()
            except Superseded:
                return None
            if found is None:
                return None
            await self._store.note(board, int(time.time()), found.drifted)
        if found.drifted:
            _log.error("the ranking had drifted", board=board, users=found.drifted, healed=found.healed)
        return found


class _Comparison:
    def __init__(
        self,
        source: ScoreSource,
        store: AuditStore,
        passed: Callable[[int], Awaitable[bool]],
        board: str,
        state: BoardState,
    ) -> None:
        assert state.epoch is not None
        self._source = source
        self._store = store
        self._passed = passed
        self._board = board
        self._epoch = state.epoch
        self._shards = state.shards
        self._season = state.season

    async def run(self) -> Found | None:
        suspects: list[str] = []
        users = known = shown = 0
        scan = await self._source.scan(self._board, self._season)
        async with aclosing(scan.chunks()) as chunks:
            async for chunk in chunks:
                begun = time.monotonic()
                pairs = list(zip(chunk.users, chunk.rows, strict=True))
                part = await self._store.compare(self._board, self._shards, self._epoch, pairs)
                suspects += part.different
                users, known, shown = users + len(pairs), known + part.known, shown + part.shown
                await asyncio.sleep(IDLE_PER_BUSY * (time.monotonic() - begun))
        strays = 0
        all_known, all_shown = await self._store.sizes(self._board, self._shards, self._epoch)
        if all_known > known:
            suspects += await self._nobody()
        if all_shown > shown:
            strays = await self._sweep()
        drifted = healed = 0
        for start in range(0, min(len(suspects), MANY), JUDGED_AT_ONCE):
            judged = await self._judge(suspects[start : start + JUDGED_AT_ONCE])
            if judged is None:
                return None
            drifted, healed = drifted + judged[0], healed + judged[1]
        return Found(users, drifted + strays, healed + strays)

    async def _nobody(self) -> list[str]:
        """Users whom the ranking knows and PostgreSQL may not."""
        found: set[str] = set()
        for place in places(self._board, self._shards):
            cursor = -1
            while cursor:
                begun = time.monotonic()
                cursor, users = await self._store.users(place, self._epoch, max(cursor, 0))
                found |= set(await self._source.unknown(self._board, self._season, users))
                await asyncio.sleep(IDLE_PER_BUSY * (time.monotonic() - begun))
        return sorted(found)

    async def _sweep(self) -> int:
        removed = 0
        for place in places(self._board, self._shards):
            cursor = -1
            while cursor:
                begun = time.monotonic()
                cursor, count = await self._store.sweep(place, self._epoch, max(cursor, 0))
                removed += count
                await asyncio.sleep(IDLE_PER_BUSY * (time.monotonic() - begun))
        return removed

    async def _judge(self, users: Sequence[str]) -> tuple[int, int] | None:
        """How many of ``users`` have drifted, and how many of these were healed; None where it cannot be told."""
        first = await self._source.rows(self._board, self._season, users)
        if first is None or not await self._passed(first[1]):
            return None
        held = await self._store.held(self._board, self._shards, self._epoch, users)
        last = await self._source.rows(self._board, self._season, users)
        if last is None:
            return None
        after = last[0]
        wrong = [user for user in users if has_drifted(user, first[0], held[user], after)]
        for user in wrong[:10]:
            _log.warning("a user had drifted", board=self._board, user=user, held=held[user].value,
                         row=after[user].value if user in after else None)  # fmt: skip
        rows = [(user, held[user], after.get(user)) for user in wrong]
        return len(wrong), await self._store.heal(self._board, self._shards, self._epoch, rows) if rows else 0


def has_drifted(user: str, before: Mapping[str, Row], held: Held, after: Mapping[str, Row]) -> bool:
    """Whether the ranking is wrong about a user.

    ``before`` was read first; then all that was committed by then was projected; then Redis was asked (``held``), and
    only then ``after`` was read. So the ranking must be at least as new as the one and at most as new as the other.
    Pure.
    """
    if not held.readable or held.version < version_of(before, user) or held.version > version_of(after, user):
        return True
    row = after.get(user)
    if row is None or held.value is None:
        return False
    hidden = held.value.split("|", 2)[1] == "1"
    if (held.score is None) != hidden:
        return True
    return held.version == version_of(after, user) and (
        held.value != row.value or held.score != (None if hidden else row.score)
    )
