"""A watcher of a scoreboard over WebSocket, written from the contract alone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

PROTOCOL = "podium.v1"
WAIT_SECONDS = 20.0
"""How long a test waits for a message; far above any delay of a healthy system."""

Message = dict[str, Any]


class Watcher:
    """Keeps every message, and checks on the way that no board's (epoch, version) goes backwards."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[Message] = []
        self.newest: dict[str, Message] = {}
        self.went_back: list[tuple[Message, Message]] = []
        self._arrived = asyncio.Condition()
        self._closed = False

    async def send(self, message: Message | str) -> None:
        """Send one message."""
        await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def until(self, condition: Callable[[Self], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait until the condition on what has arrived holds. Raises TimeoutError."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: condition(self) or self._closed)
        assert condition(self), f"closed with {self.connection.close_code} {self.connection.close_reason}"

    async def message(self, kind: str, *, after: int = 0, seconds: float = WAIT_SECONDS) -> Message:
        """The first message of a type beyond position ``after``."""

        def found(watcher: Self) -> Message | None:
            return next((message for message in watcher.messages[after:] if message["type"] == kind), None)

        await self.until(lambda watcher: found(watcher) is not None, seconds)
        message = found(self)
        assert message is not None
        return message

    async def score_of(self, user_id: str, score: int, *, board: str = "default") -> Message:
        """Wait for a snapshot in which a user has a score, and return it."""

        def shown(watcher: Self) -> bool:
            rankings = watcher.newest.get(board, {}).get("rankings", [])
            return any(row["userId"] == user_id and row["score"] == score for row in rankings)

        await self.until(shown)
        return self.newest[board]

    async def closed(self, seconds: float = WAIT_SECONDS) -> int | None:
        """Wait for the end of the connection and return its close code."""
        async with asyncio.timeout(seconds):
            await self.connection.wait_closed()
        return self.connection.close_code

    async def read(self) -> None:
        """Take messages until the connection ends."""
        try:
            async for raw in self.connection:
                message = json.loads(raw)
                async with self._arrived:
                    self._take(message)
                    self._arrived.notify_all()
        except websockets.ConnectionClosedError:
            pass
        finally:
            async with self._arrived:
                self._closed = True
                self._arrived.notify_all()

    def _take(self, message: Message) -> None:
        self.messages.append(message)
        if message["type"] != "snapshot":
            return
        before = self.newest.get(message["board"])
        if before and (message["epoch"], message["version"]) < (before["epoch"], before["version"]):
            self.went_back.append((before, message))
        self.newest[message["board"]] = message


@contextlib.asynccontextmanager
async def watch(
    ws_url: str, *, token: str | None = None, protocols: Sequence[str] | None = (PROTOCOL,), **options: Any
) -> AsyncIterator[Watcher]:
    """Watch a scoreboard inside the block. Raises ``websockets.InvalidStatus`` when the upgrade is refused."""
    offered = [*(protocols or ()), *([f"bearer.{token}"] if token else ())]
    options = {"subprotocols": [Subprotocol(name) for name in offered] or None, "proxy": None, **options}
    async with websockets.connect(ws_url, **options) as connection:
        watcher = Watcher(connection)
        reader = asyncio.create_task(watcher.read())
        try:
            yield watcher
        finally:
            await connection.close()
            await reader
    assert not watcher.went_back, f"(epoch, version) went backwards: {watcher.went_back[0]}"
