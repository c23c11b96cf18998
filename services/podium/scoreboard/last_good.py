"""Answers kept for the time in which there are no new ones."""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final, Generic, NamedTuple, TypeVar

LAST_GOOD_SECONDS: Final = 600.0
"""How long an answer is given again; the longer, the more of it is not so any more."""

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class Kept(NamedTuple, Generic[Answer]):
    """An answer, and how many seconds old it is."""

    answer: Answer
    seconds: float


class LastGood(Generic[Key, Answer]):
    """The newest answers to the questions that were answered last, at most ``size``, for ``LAST_GOOD_SECONDS``."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._held: OrderedDict[Key, tuple[float, Answer]] = OrderedDict()

    def keep(self, key: Key, answer: Answer) -> None:
        """This is the newest answer."""
        self._held[key] = self._clock(), answer
        self._held.move_to_end(key)
        if len(self._held) > self._size:
            self._held.popitem(last=False)

    def forget(self, key: Key) -> None:
        """The answer holds no more."""
        self._held.pop(key, None)

    def questions(self) -> Collection[Key]:
        """The questions whose answers are kept, also those that are too old."""
        return self._held.keys()

    def get(self, key: Key) -> Kept[Answer] | None:
        """The newest answer; None where it is not kept, or too old."""
        held = self._held.get(key)
        if held is None:
            return None
        seconds = self._clock() - held[0]
        return Kept(held[1], seconds) if seconds <= LAST_GOOD_SECONDS else None
