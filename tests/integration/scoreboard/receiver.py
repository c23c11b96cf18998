"""A CDN's purge API for tests: keeps what it is sent, and answers as it is told."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.support.apps import run_app


@dataclass
class Call:
    """One call: when it came (monotonic), its fields in lower case, and its body."""

    at: float
    method: str
    headers: dict[str, str]
    body: Any


@dataclass
class PurgeApi:
    """Answers ``answers`` in turn, then 200; a status of 0 is an answer that does not come while ``silent`` is set."""

    answers: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    url: str = ""
    speak: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to end the silence."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        decoded = msgspec.json.decode(body) if body else None
        self.calls.append(Call(time.monotonic(), scope["method"], headers, decoded))
        status = self.answers.pop(0) if self.answers else 200
        if status == 0:
            await self.speak.wait()
            status = 503
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def versions(self, board: str = "default") -> list[int]:
        """The versions that calls were made for."""
        return [call.body["version"] for call in self.calls if call.body["board"] == board]


@contextlib.asynccontextmanager
async def running_purge_api(*answers: int) -> AsyncIterator[PurgeApi]:
    """The API on a port of its own, inside the block."""
    api = PurgeApi(list(answers))
    async with run_app(api, lifespan="off") as running:
        api.url = f"{running.url}/purge"
        try:
            yield api
        finally:
            api.speak.set()
