"""One reconcile at a time for each Scoreboard: wake-ups are merged, failures are retried with growing pauses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of a Scoreboard."""

Work = Callable[[str, str], Awaitable[float | None]]
"""Reconciles one Scoreboard and returns seconds until the next look, or None."""

SETTLE_SECONDS = 0.3
"""Wake-ups within this time are one: an apply causes a burst of watch events."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
WORK_SECONDS = 120.0
"""A reconcile that takes longer is cut off and started again."""


class Workers:
    """A task for each Scoreboard that is known."""

    def __init__(self, work: Work, resync_seconds: float) -> None:
        self._work = work
        self._resync = resync_seconds
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._bells: dict[Key, asyncio.Event] = {}
        self.last_progress = time.monotonic()
        """When a reconcile last ended, by success or failure (monotonic seconds)."""

    def wake(self, namespace: str, name: str) -> None:
        """Look at this Scoreboard soon; also makes its task."""
        key = (namespace, name)
        self._bells.setdefault(key, asyncio.Event()).set()
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._loop(key), name=f"reconcile {namespace}/{name}")

    def forget(self, namespace: str, name: str) -> None:
        """Stop looking at a Scoreboard that is gone."""
        key = (namespace, name)
        self._bells.pop(key, None)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def known(self) -> set[Key]:
        """The Scoreboards that have a task."""
        return set(self._tasks)

    async def stop(self) -> None:
        """Cancel all tasks and wait for their end."""
        tasks = list(self._tasks.values())
        for key in list(self._tasks):
            self.forget(*key)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _loop(self, key: Key) -> None:
        bell = self._bells[key]
        pause = FIRST_PAUSE_SECONDS
        while True:
            bell.clear()
            try:
                again = await asyncio.wait_for(self._work(*key), WORK_SECONDS)
                pause = FIRST_PAUSE_SECONDS
                wait = again if again is not None else self._resync
            except Exception:
                log.exception("reconcile of %s/%s failed; again in %.0f s", *key, pause)
                wait = pause
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            self.last_progress = time.monotonic()
            try:
                await asyncio.wait_for(bell.wait(), wait)
                await asyncio.sleep(SETTLE_SECONDS)
            except TimeoutError:
                continue
