"""Life and death of watchers: heartbeats, tokens that end, the slow, the silent, and everyone when the pod goes away.

One timer for all: a wheel spreads the heartbeats evenly, and only those are looked at for whom something is due.
"""

import asyncio
import random
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from podium.scoreboard import metrics
from podium.scoreboard.domain import timestamp
from podium.scoreboard.hub import Hub
from podium.scoreboard.representations import document
from podium.scoreboard.watcher import Watcher
from podium.scoreboard.wheel import Wheel

TURNS = 50
"""Turns of the wheel between two heartbeats of a watcher."""

_SUSPICIOUS = 1.5
"""Who gave no sign for so many heartbeats is looked at each turn, and ended at two."""

GOING_AWAY, TOKEN_EXPIRED, TOO_SLOW = 1001, 4001, 4008
"""Close codes: RFC 6455, section 7.4.1, and this project's."""

_Key = TypeVar("_Key")

NO_ANSWER = "1006"
"""Code in metrics of a connection that was cut, because its peer gave no sign (RFC 6455, section 7.4.1)."""

_log = structlog.get_logger("podium.scoreboard.keeper")


class Keeper:
    """Lets watchers into the hub and sees to their end. Times in seconds."""

    def __init__(self, hub: Hub, *, heartbeat: float = 25.0, slow: float = 10.0) -> None:
        self.hub = hub
        self._heartbeat = heartbeat
        self._slow = slow
        self._wheel = Wheel(TURNS)
        self._suspects: set[Watcher] = set()
        """Watchers that let a heartbeat pass without a sign."""
        self._by_session: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._expiring: defaultdict[int, set[Watcher]] = defaultdict(set)
        """Watchers by the second (Unix time) in which their token expires."""
        self.draining = False

    def join(self, watcher: Watcher, board: str) -> None:
        """Take a new watcher and send it the board's snapshot at once."""
        self._wheel.add(watcher)
        self.hub.join(watcher, (board,))

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher; harmless for one that has left."""
        if not self.hub.leave(watcher):
            return
        self._wheel.remove(watcher)
        self._suspects.discard(watcher)
        self._forget_token(watcher)

    def authenticate(self, watcher: Watcher, session: str, expires: float) -> None:
        """Bind a watcher to a session until ``expires`` (Unix seconds)."""
        self._forget_token(watcher)
        watcher.session, watcher.expires = session, expires
        self._by_session[session].add(watcher)
        self._expiring[int(expires)].add(watcher)

    def _forget_token(self, watcher: Watcher) -> None:
        if watcher.session is None or watcher.expires is None:
            return
        _discard(self._by_session, watcher.session, watcher)
        _discard(self._expiring, int(watcher.expires), watcher)
        watcher.session = watcher.expires = None

    def revoke(self, session: str) -> None:
        """Close what the session opened."""
        for watcher in list(self._by_session.get(session, ())):
            self.close(watcher, TOKEN_EXPIRED, "the session was revoked")

    def close(self, watcher: Watcher, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        """End a watcher's connection in order."""
        metrics.CLOSED.labels(str(code)).inc()
        self.leave(watcher)
        watcher.close(code, reason, retry_after_ms)

    async def run(self) -> None:
        """Keep watchers for ever."""
        pause = self._heartbeat / TURNS
        while True:
            await asyncio.sleep(pause)
            self.turn(time.monotonic(), time.time())

    def turn(self, now: float, unix: float) -> None:
        """One turn of the wheel: beats for its share, and an end for whom it is due.

        ``now`` is monotonic, ``unix`` Unix time.
        """
        self._end_tokens(unix)
        for watcher in [one for one in self.hub.busy if one.busy_since and now - one.busy_since > self._slow]:
            self.close(watcher, TOO_SLOW, "too slow")
        for watcher in [one for one in self._suspects if now - one.last_frame >= 2 * self._heartbeat]:
            self.leave(watcher)
            watcher.abort()
            metrics.CLOSED.labels(NO_ANSWER).inc()
        heartbeat = document({"type": "heartbeat", "time": timestamp(datetime.now(UTC))})
        for watcher in self._wheel.turn():
            if now - watcher.last_frame < _SUSPICIOUS * self._heartbeat:
                self._suspects.discard(watcher)
            else:
                self._suspects.add(watcher)
            # A busy watcher has snapshots waiting, which say the same.
            if watcher.busy_since is None and watcher.is_open:
                watcher.beat(heartbeat)

    def _end_tokens(self, unix: float) -> None:
        for second in [second for second in self._expiring if second <= unix]:
            for watcher in list(self._expiring.get(second, ())):
                self.close(watcher, TOKEN_EXPIRED, "the token expired")

    async def drain(self, seconds: float, per_second: float) -> None:
        """Send all watchers away, each with a time of its own after which to come back.

        ``per_second`` of them go in a second, so that the others can take them in as they come; more only where the
        last one would otherwise be left after ``seconds``.
        """
        self.draining = True
        watchers = list(self.hub.watchers)
        random.shuffle(watchers)
        seconds = min(seconds, len(watchers) / per_second)
        _log.info("sending watchers away", watchers=len(watchers), seconds=round(seconds, 1))
        started = time.monotonic()
        for position, watcher in enumerate(watchers):
            wait = started + seconds * position / len(watchers) - time.monotonic()
            if wait > 0.005:
                await asyncio.sleep(wait)
            if watcher in self.hub.watchers:
                retry = random.randrange(100, 1000)  # noqa: S311 - spreads load, guards nothing
                self.close(watcher, GOING_AWAY, f'{{"retryAfterMs":{retry}}}', retry)
        for watcher in list(self.hub.watchers):  # those that were let in before the listener knew
            self.close(watcher, GOING_AWAY, '{"retryAfterMs":500}', 500)


def _discard(held: defaultdict[_Key, set[Watcher]], key: _Key, watcher: Watcher) -> None:
    held[key].discard(watcher)
    if not held[key]:
        del held[key]
