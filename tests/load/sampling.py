"""A value over time."""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

INTERVAL_SECONDS = 0.5


class Sampler:
    """Reads a value twice a second inside the block, and once at its end."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.values: list[float] = []
        self._read = read
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.values.append(self._read())

    async def _sample(self) -> None:
        while True:
            self.values.append(self._read())
            await asyncio.sleep(INTERVAL_SECONDS)
