"""A circuit breaker (M. Nygard, Release It!, "Circuit Breaker") for reads from Redis."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from podium.common.problems import StoreUnavailable

PAUSE_SECONDS: Final = 2.0
"""Time between two calls that look whether an outage is over; about as long as one may take."""

_Answer = TypeVar("_Answer")


class CircuitBreaker:
    """After a call met an outage the next ones fail at once, but for one in a while that looks whether it is over."""

    def __init__(self, pause: float = PAUSE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._clock = clock
        self._open = False
        self._next = 0.0

    async def __call__(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Make one call. Raises StoreUnavailable, or what the call raises."""
        if self._open:
            if self._clock() < self._next:
                raise StoreUnavailable("redis")
            self._next = self._clock() + self._pause
        try:
            answer = await call()
        except StoreUnavailable:
            self._open = True
            self._next = self._clock() + self._pause
            raise
        except Exception:
            self._open = False
            raise
        self._open = False
        return answer
