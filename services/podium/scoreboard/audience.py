"""Who can take a board's snapshots now, kept so that a broadcast is one pass of ``write`` in C.

Sockets that take all they are given need no more than their descriptor. Those that do not are told to their watcher,
which finishes the frame and leaves the audience until it has caught up.
"""

import os
from itertools import repeat

from podium.scoreboard.representations import Published
from podium.scoreboard.watcher import NO_DESCRIPTOR, Watcher


class Lane:
    """Watchers that get the same bytes, in two parallel arrays.

    A pass serves in steps those who were there when it began; between steps watchers come (behind those) and go (they
    leave a hole, closed after the pass).
    """

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._watchers: list[Watcher | None] = []
        self._places: dict[Watcher, int] = {}
        self._holes: list[int] = []
        self._next = 0
        self._end = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, watcher: Watcher) -> bool:
        return watcher in self._places

    @property
    def pending(self) -> bool:
        """Whether a pass is under way."""
        return self._next < self._end

    def add(self, watcher: Watcher) -> None:
        """Take a watcher; a running pass does not serve it. Harmless for one that is there."""
        if watcher in self._places:
            return
        self._places[watcher] = len(self._watchers)
        self._watchers.append(watcher)
        self._descriptors.append(watcher.descriptor)

    def remove(self, watcher: Watcher) -> bool:
        """Let a watcher go; tells whether a running pass would still have served it. Harmless for strangers."""
        place = self._places.pop(watcher, None)
        if place is None:
            return False
        if self._end:
            self._watchers[place] = None
            self._descriptors[place] = NO_DESCRIPTOR
            self._holes.append(place)
            return self._next <= place < self._end
        self._close_hole(place)
        return False

    def begin(self) -> None:
        """Begin a pass."""
        self._next, self._end = 0, len(self._watchers)

    def step(self, published: Published, most: int, *, direct: bool) -> int:
        """Serve the next watchers of the pass, at most so many; how many were.

        ``direct`` writes the frame to their descriptors; otherwise each is asked to send it.
        """
        start, stop = self._next, min(self._next + most, self._end)
        self._next = stop
        there = sum(1 for place in self._holes if start <= place < stop)
        watchers = self._watchers[start:stop]
        if direct:
            frame = published.frame_for(next((one.encoding for one in watchers if one is not None), 0))
            for place, written in _write_all(self._descriptors[start:stop], frame):
                watcher = watchers[place]
                if watcher is not None:
                    watcher.send_rest(frame, written)
        else:
            for watcher in watchers:
                if watcher is not None and watcher.is_open:
                    watcher.send(published)
        return stop - start - there

    def finish(self) -> None:
        """End the pass, also one that was given up."""
        self._next = self._end = 0
        for place in sorted(self._holes, reverse=True):
            self._close_hole(place)
        self._holes.clear()

    def _close_hole(self, place: int) -> None:
        """The last watcher takes the place of one that left."""
        last, descriptor = self._watchers.pop(), self._descriptors.pop()
        if place == len(self._watchers):
            return
        self._watchers[place], self._descriptors[place] = last, descriptor
        if last is not None:
            self._places[last] = place


def _write_all(descriptors: list[int], frame: bytes) -> list[tuple[int, int]]:
    """Write a frame to all descriptors; the places of those that did not take it whole, with what they took."""
    written: list[int] = []
    writes = map(os.write, descriptors, repeat(frame))
    while True:
        try:
            # What was appended before an error stays, and the iterator goes on behind the one that failed.
            written.extend(writes)
        except OSError:
            written.append(0)
        else:
            break
    size = len(frame)
    if written.count(size) == len(written):
        return []
    return [(place, count) for place, count in enumerate(written) if count != size]


class Audience:
    """All of a board's watchers that can take a snapshot now: a lane for each form of it."""

    def __init__(self) -> None:
        self._direct: dict[int, Lane] = {}
        self._asked = Lane()

    def __len__(self) -> int:
        return len(self._asked) + sum(map(len, self._direct.values()))

    def add(self, watcher: Watcher) -> None:
        """Take a watcher that is not busy."""
        self._lane(watcher).add(watcher)

    def remove(self, watcher: Watcher) -> bool:
        """Let a watcher go; tells whether a running broadcast would still have served it."""
        return self._lane(watcher).remove(watcher)

    def lanes(self) -> list[tuple[Lane, bool]]:
        """The lanes, and whether their frames are written directly."""
        return [*((lane, True) for lane in self._direct.values()), (self._asked, False)]

    def _lane(self, watcher: Watcher) -> Lane:
        if watcher.descriptor == NO_DESCRIPTOR:
            return self._asked
        lane = self._direct.get(watcher.encoding)
        if lane is None:
            lane = self._direct[watcher.encoding] = Lane()
        return lane
