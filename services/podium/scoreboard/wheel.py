"""A timing wheel (Varghese and Lauck, 1987): each watcher has its turn once in a round, all in equal shares."""

from collections.abc import Sequence

from podium.scoreboard.watcher import Watcher


class Wheel:
    """``slots`` turns make a round. A watcher's first turn comes a whole round after it was added."""

    def __init__(self, slots: int) -> None:
        self._slots: Sequence[set[Watcher]] = [set() for _ in range(slots)]
        self._now = 0

    def add(self, watcher: Watcher) -> None:
        """Take a watcher in."""
        watcher.slot = self._now
        self._slots[self._now].add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """Let a watcher go."""
        self._slots[watcher.slot].discard(watcher)

    def turn(self) -> list[Watcher]:
        """Those whose turn it is."""
        self._now = (self._now + 1) % len(self._slots)
        return list(self._slots[self._now])
