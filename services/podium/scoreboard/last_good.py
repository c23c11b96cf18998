"""Answers kept for the time in which there are no new ones."""

from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class LastGood(Generic[Key, Answer]):
    """The newest answers to the questions that were answered last, at most ``size``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[Key, Answer] = OrderedDict()

    def keep(self, key: Key, answer: Answer) -> None:
        """This is the newest answer."""
        self._held[key] = answer
        self._held.move_to_end(key)
        if len(self._held) > self._size:
            self._held.popitem(last=False)

    def forget(self, key: Key) -> None:
        """The answer holds no more."""
        self._held.pop(key, None)

    def get(self, key: Key) -> Answer | None:
        """The newest answer; None where it is not kept."""
        return self._held.get(key)
