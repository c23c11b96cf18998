"""Tell a CDN that a board's top has changed: ``cdn.purge`` of the resource.

The projector that published a top makes the call, so it is made once for a change. Publishing never waits for it:
``Purger.changed`` only notes the newest change of each board. What was noted is conflated, at most one call for a board
is made in ``min_interval_seconds`` by all projectors together, and one that fails is repeated with growing pauses for
``MAX_ATTEMPTS``. A call that is not made at all costs freshness and nothing else: the cache's own times still hold.

A pod that gets the new top later than the CDN asks it would leave the old one in the cache again. So each purge is
followed by another after ``REPEAT_SECONDS``, by when every pod has read Redis anew.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import httpx
import structlog

from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable
from podium.scoreboard.metrics import PURGE_SECONDS, PURGES
from podium.scoreboard.projector.purge_request import Change, purge_request
from podium.scoreboard.settings import PurgeSettings

CALL_SECONDS: Final = 5.0
"""How long one call may take."""

MAX_ATTEMPTS: Final = 8
"""Calls for one change until it is given up: half a minute of pauses, and the time of the calls."""

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Bounds of the pause before another attempt; it doubles, and a random part of it is left out."""

REPEAT_SECONDS: Final = 2.0
"""After how long a purge is repeated; a scoreboard pod re-reads every top once a second."""

AWAY_SECONDS: Final = 1.0
"""Time between two questions for a turn while Redis is away."""

LAST_SECONDS: Final = 2.0
"""How long a projector that stops may take for what is still to be purged."""

_TRANSIENT: Final = frozenset({408, 425, 429})
"""Refusals that pass; so does every 5xx."""

Claim = Callable[[str, float], Awaitable[float]]
"""Asks for the turn to purge a board for so many seconds; answers 0, or how long another still has it.

Raises StoreUnavailable.
"""

_log = structlog.get_logger("podium.projector.purge")


class _NotPurged(Exception):
    """A call failed. ``outcome`` is for the metric, ``pause`` the least time until another; None where none helps."""

    def __init__(self, outcome: str, why: str, pause: float | None) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.pause = pause


@dataclass(slots=True)
class _Pending:
    """What is to be purged of a board."""

    newest: Change
    since: float | None
    """Monotonic time of the first change that is not purged."""
    purged: Change | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Purger:
    """Purges boards. ``http`` is closed by whoever made it; ``keyid`` says in a signature whose key it is."""

    def __init__(self, settings: PurgeSettings, keyid: str, claim: Claim, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._url = target(settings.url)
        self._keyid = keyid
        self._claim = claim
        self._http = http
        self._pending: dict[str, _Pending] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def changed(self, board: str, epoch: int, version: int) -> None:
        """Note that a top was published; returns at once."""
        change, now = Change(board, epoch, version), time.monotonic()
        pending = self._pending.setdefault(board, _Pending(change, now))
        if (epoch, version) > (pending.newest.epoch, pending.newest.version):
            pending.newest = change
        if pending.since is None:
            pending.since = now
        pending.wake.set()
        if board not in self._tasks or self._tasks[board].done():
            task = asyncio.create_task(self._follow(pending), name=f"purge {board}")
            task.add_done_callback(_report)
            self._tasks[board] = task

    async def close(self) -> None:
        """End what runs; what is not purged yet gets one call without waiting for a turn."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        left = [pending for pending in self._pending.values() if pending.purged != pending.newest]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await asyncio.gather(*(self._attempt(pending) for pending in left), return_exceptions=True)

    async def _follow(self, pending: _Pending) -> None:
        """Purge a board for as long as it changes, and once more when it does no longer."""
        while True:
            await pending.wake.wait()
            while pending.wake.is_set():
                heed_cancellation()
                pending.wake.clear()
                await self._purge(pending)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPEAT_SECONDS):
                        await pending.wake.wait()
            await self._purge(pending)

    async def _purge(self, pending: _Pending) -> None:
        """Call until it is done, or given up."""
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, MAX_ATTEMPTS + 1):
            await self._turn(pending.newest.board)
            try:
                return await self._attempt(pending)
            except _NotPurged as failed:
                again = failed.pause is not None and attempt < MAX_ATTEMPTS
                event = "a purge failed, it is tried again" if again else "a purge failed, it is given up"
                _log.warning(event, board=pending.newest.board, host=self._url.host, attempt=attempt, error=str(failed))
                if failed.pause is None or not again:
                    return None
                await asyncio.sleep(max(failed.pause, pause * random.uniform(0.5, 1)))  # noqa: S311 (no secret)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return None

    async def _turn(self, board: str) -> None:
        """Wait for the turn of this process."""
        interval = self._settings.min_interval_seconds
        while True:
            try:
                left = await self._claim(board, interval)
            except StoreUnavailable:  # then nobody knows whose turn it is, but tops do not change either
                left = AWAY_SECONDS
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _attempt(self, pending: _Pending) -> None:
        """One call for the newest change. Raises _NotPurged."""
        change, since = pending.newest, pending.since
        pending.since = None
        try:
            await self._call(change)
        except BaseException as error:
            pending.since = since
            if isinstance(error, _NotPurged):
                PURGES.labels(error.outcome).inc()
            raise
        pending.purged = change
        PURGES.labels("purged").inc()
        if since is not None:
            PURGE_SECONDS.observe(time.monotonic() - since)

    async def _call(self, change: Change) -> None:
        token = self._settings.token()
        if token is None:
            raise _NotPurged("no-token", "the Secret of cdn.purge has no usable token", None)
        request = purge_request(
            self._settings.form,
            str(self._url),
            token,
            change,
            keyid=self._keyid,
            created=int(time.time()),
            nonce=secrets.token_urlsafe(16),
        )
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._http.post(self._url, content=request.body, headers=request.headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise _NotPurged("unreachable", type(error).__name__, 0.0) from None  # its text may quote the address
        if answer.is_success:
            return
        passes = answer.is_server_error or answer.status_code in _TRANSIENT
        raise _NotPurged(
            "failed" if passes else "refused",
            f"answered with {answer.status_code}",
            _retry_after(answer) if passes else None,
        )


def target(url: str) -> httpx.URL:
    """An address in its normal form (RFC 3986, section 6.2.3): host in lower case, no default port, a path."""
    parsed = httpx.URL(url)
    return parsed if str(parsed).count("/") > 2 else httpx.URL(f"{parsed}/")


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that the answer asks for; dates are not looked at."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), LONGEST_PAUSE_SECONDS) if text.isascii() and text.isdigit() else 0.0


def _report(task: asyncio.Task[None]) -> None:
    """Say why a loop ended by itself; the next change begins another."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("purging has ended", task=task.get_name(), exc_info=error)


@contextlib.asynccontextmanager
async def purging(settings: PurgeSettings, keyid: str, claim: Claim) -> AsyncIterator[Callable[[str, int, int], None]]:
    """What to call with (board, epoch, version) of every published top, inside the block.

    Without an address in the settings it does nothing.
    """
    if not settings.url:
        yield lambda _board, _epoch, _version: None
        return
    async with httpx.AsyncClient(timeout=CALL_SECONDS, follow_redirects=False, trust_env=False) as http:
        purger = Purger(settings, keyid, claim, http)
        try:
            yield purger.changed
        finally:
            await purger.close()
