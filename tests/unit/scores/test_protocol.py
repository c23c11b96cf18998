"""The protocol where it need not ask anybody: overload."""

import asyncio
import json
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from podium.common.security_events import SecurityEvents
from podium.scores.protocol import STATE, LeanUpdates, UpdateProtocol
from tests.unit.scores.test_lean import RULES, request, world


class Full:
    """A batcher with no room."""

    overloaded = True


class Wire(asyncio.Transport):
    """A transport that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    """Nothing comes this far."""
    raise AssertionError(scope)


async def test_overload_is_answered_before_anything_is_looked_at() -> None:
    """503 with Retry-After at once, as a problem of the request's trace, and the connection stays."""
    full: Any = Full()
    shared = LeanUpdates(world().recognizer, RULES, full, SecurityEvents(lambda: None))
    config = Config(no_app, http=UpdateProtocol, log_config=None, ws="none")
    config.load()
    protocol, wire = UpdateProtocol(config, ServerState(), {STATE: shared}), Wire()
    protocol.connection_made(wire)
    headers, body = request(traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01", signature="wrong")
    head = b"".join(b"%b: %b\r\n" % header for header in headers)
    for _ in range(2):
        protocol.data_received(b"POST /api/v1/scores/update HTTP/1.1\r\n" + head + b"\r\n" + body)
        await asyncio.sleep(0)
    first, second = wire.written.split(b"HTTP/1.1 503 Service Unavailable\r\n")[1:]
    assert first == second
    answered, _, text = first.partition(b"\r\n\r\n")
    assert b"retry-after: 1" in answered
    document = json.loads(text)
    assert document["type"].endswith("/dependency-unavailable")
    assert document["traceId"] == "ab" * 16
