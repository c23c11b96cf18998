"""Watchers of the board, through the gateway and on each scoreboard pod; they come back as clients do."""

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import websockets
from websockets.typing import Subprotocol

from tests.chaos.forward import forwarded
from tests.chaos.ledger import Place, places_of
from tests.support.instance import Instance
from tests.support.watcher import PROTOCOL

COME_BACK_SECONDS = 0.2
"""Pause before a watcher comes back where the server named no time."""

OPEN_SECONDS = 5.0
"""How long a connection may take."""

BOARD = "default"

_AWAY = (OSError, TimeoutError, AssertionError, websockets.InvalidHandshake, websockets.InvalidMessage)

Address = Callable[[], AbstractAsyncContextManager[str]]
"""Where to connect: a WebSocket URL that is good inside the block."""


class Seat:
    """One watcher, who takes its seat again whenever the connection ends.

    On ``one_pod`` nothing may go backwards from one connection to the next, either.
    """

    def __init__(self, name: str, address: Address, stars: Collection[str], *, one_pod: bool) -> None:
        self.name = name
        self.top: list[Place] = []
        """The newest snapshot."""
        self.connected = False
        self.violations: list[str] = []
        """Where (epoch, version) went backwards, or one of them had two contents."""
        self.seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
        """By star: the moments of snapshots that had it, with its score there."""
        self._address = address
        self._stars = frozenset(stars)
        self._one_pod = one_pod
        self._age: tuple[int, int] | None = None

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            pause = COME_BACK_SECONDS
            try:
                async with self._address() as url, _connect(url) as connection:
                    if not self._one_pod:  # the next pod may be some milliseconds behind the last one
                        self._age = None
                    try:
                        async for raw in connection:
                            self._take(json.loads(raw))
                    except websockets.ConnectionClosedError:
                        pass
                    finally:
                        self.connected = False
                    pause = _retry_after(connection.close_reason) or pause
            except _AWAY:
                pass
            await asyncio.sleep(pause)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] != "snapshot" or message["board"] != BOARD:
            return
        age = message["epoch"], message["version"]
        top = places_of(message["rankings"])
        if self._age is not None and age < self._age:
            self.violations.append(f"{self.name}: {age} after {self._age}")
        elif age == self._age and top != self.top:
            self.violations.append(f"{self.name}: {age} has two contents")
        self._age, self.top, self.connected = age, top, True
        now = time.monotonic()
        for place in top:
            if place.user_id in self._stars:
                self.seen[place.user_id].append((now, place.score))


class Gallery:
    """All watchers: ``visitors`` through the gateway, and one on every scoreboard pod that there is."""

    def __init__(self, instance: Instance, stars: Collection[str], visitors: int = 2) -> None:
        self._instance = instance
        self._stars = stars
        self.visitors = [
            Seat(f"visitor {number}", self._gateway, stars, one_pod=False) for number in range(1, visitors + 1)
        ]
        self.on_pods: dict[str, Seat] = {}
        self.violations: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def seats(self) -> list[Seat]:
        """All who watch now."""
        return [*self.visitors, *self.on_pods.values()]

    async def __aenter__(self) -> "Gallery":
        for seat in self.visitors:
            self._tasks[seat.name] = asyncio.create_task(seat.watch(), name=seat.name)
        await self.follow_pods()
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self._tasks):
            await self._leave(name)

    async def follow_pods(self) -> None:
        """Sit down on pods that are new, leave those that are gone."""
        pods = {
            pod["metadata"]["uid"]: pod["metadata"]["name"]
            for pod in await asyncio.to_thread(self._instance.pods, "scoreboard")
        }
        for uid in [uid for uid in self.on_pods if uid not in pods]:
            await self._leave(uid)
        for uid, name in pods.items():
            if uid not in self.on_pods:
                seat = Seat(f"watcher on {name}", self._pod(name), self._stars, one_pod=True)
                self.on_pods[uid] = seat
                self._tasks[uid] = asyncio.create_task(seat.watch(), name=seat.name)

    def take_violations(self) -> list[str]:
        """What went backwards since the last call."""
        found, self.violations = self.violations, []
        for seat in self.seats:
            found += seat.violations
            seat.violations = []
        return found

    async def _leave(self, name: str) -> None:
        seat = self.on_pods.pop(name, None)
        if seat is not None:
            self.violations += seat.violations
        task = self._tasks.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    @contextlib.asynccontextmanager
    async def _gateway(self) -> AsyncIterator[str]:
        yield self._instance.ws_url

    def _pod(self, name: str) -> Address:
        @contextlib.asynccontextmanager
        async def address() -> AsyncIterator[str]:
            async with forwarded(self._instance, f"pod/{name}", 8080) as port:
                yield f"ws://127.0.0.1:{port}/ws/scoreboard"

        return address


def _connect(url: str) -> websockets.connect:
    return websockets.connect(url, subprotocols=[Subprotocol(PROTOCOL)], proxy=None, open_timeout=OPEN_SECONDS)


def _retry_after(reason: str | None) -> float | None:
    """Seconds until a client that was sent away should come back."""
    try:
        return float(json.loads(reason or "")["retryAfterMs"]) / 1000
    except (ValueError, KeyError, TypeError):
        return None
