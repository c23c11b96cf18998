"""Liveness: notices a watch that died silently, and a loop that hangs. Pure but for the clock it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from podium_operator.workers import Key

WATCH_LAG_SECONDS = 60.0
"""A watch that has not delivered a change for this long after it happened is dead."""

HANG_SECONDS = 180.0
"""Without a finished resync for this long the process hangs; longer than the longest reconcile."""


class Watchdog:
    """Compares what the watch of Scoreboards delivered with what a plain list says."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._delivered: dict[Key, str] = {}
        self._missing_since: dict[Key, tuple[str, float]] = {}
        self._last_list = clock()

    def delivered(self, key: Key, version: str) -> None:
        """The watch brought an object at this resourceVersion."""
        self._delivered[key] = version
        self._missing_since.pop(key, None)

    def gone(self, key: Key) -> None:
        """The watch said that an object was deleted."""
        self._delivered.pop(key, None)
        self._missing_since.pop(key, None)

    def listed(self, versions: Mapping[Key, str]) -> None:
        """A list says which resourceVersions there are now."""
        now = self._clock()
        self._last_list = now
        for key, version in versions.items():
            if self._delivered.get(key) == version:
                self._missing_since.pop(key, None)
            elif self._missing_since.get(key, ("-", 0.0))[0] != self._delivered.get(key, ""):
                self._missing_since[key] = (self._delivered.get(key, ""), now)
        for key in set(self._missing_since) - set(versions):
            del self._missing_since[key]

    def problems(self) -> list[str]:
        """What a restart would mend; empty while all is well."""
        now = self._clock()
        late: Iterable[Key] = (k for k, (_, since) in self._missing_since.items() if now - since > WATCH_LAG_SECONDS)
        found = [f"the watch has not delivered changes of {namespace}/{name}" for namespace, name in sorted(late)]
        if now - self._last_list > HANG_SECONDS:
            found.append("no look at all Scoreboards has ended for too long")
        return found
