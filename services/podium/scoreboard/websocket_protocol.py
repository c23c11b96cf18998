"""uvicorn's WebSocket protocol with what a fan-out needs: writing a ready-made frame without a task or a copy.

It is given to uvicorn as ``ws=``. The ASGI app finds it in ``scope["extensions"]["podium.fanout"]``; the handshake,
control frames and incoming messages stay uvicorn's and the websockets library's.
"""

import logging
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

EXTENSION: Final = "podium.fanout"

SEND_BUFFER_BYTES: Final = 64 * 1024
"""Cap of the kernel's buffer for one connection: without it megabytes vanish there before a reader shows as slow."""

CLOSE_SECONDS: Final = 2.0
"""How long a peer may take to answer a close before the connection is cut."""

MAX_FRAME_BYTES: Final = 64 * 1024
"""Larger messages end the connection (1009); between the contract's limit and this one they are only an error."""

UVICORN_OPTIONS: Final[dict[str, Any]] = {
    "ws_ping_interval": None,  # the hub pings all connections by one timer
    "ws_ping_timeout": None,
    "ws_max_size": MAX_FRAME_BYTES,
    "ws_per_message_deflate": False,  # a frame is made once for all
}


class FanoutProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn logs each handshake with its query string; the access log of the app has what is wanted.
        self.logger = logging.getLogger("podium.websocket")
        self.logger.setLevel(logging.WARNING)
        # The library logs headers, tokens among them, where it is let.
        self.conn.logger = self.logger
        self.conn.debug = False
        self.last_frame = self.loop.time()
        self.on_blocked: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.on_frame: Callable[[], None] | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Make every byte the socket does not take visible at once."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_connect(self, event: Request) -> None:
        """Show this object to the app."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions = cast(dict[str, object], self.scope["extensions"])
            extensions[EXTENSION] = self

    def handle_events(self) -> None:
        """Note that whole frames came, of whatever kind."""
        if self.conn.events and self.on_frame is not None:
            self.on_frame()
        super().handle_events()

    def pause_writing(self) -> None:
        """The socket stopped taking bytes."""
        super().pause_writing()
        if self.on_blocked is not None:
            self.on_blocked()

    def resume_writing(self) -> None:
        """The socket took all that waited."""
        super().resume_writing()
        if self.on_drained is not None:
            self.on_drained()

    @property
    def is_open(self) -> bool:
        """Whether frames may be written: after the handshake, before any close."""
        return self.handshake_complete and not (self.close_sent or self.disconnected or self.transport.is_closing())

    def write_frame(self, data: bytes) -> None:
        """Write whole frames as they are; only while ``is_open``."""
        self.transport.write(data)

    def close_now(self, code: int, reason: str) -> None:
        """Send a close frame and end the app's side; the peer has ``CLOSE_SECONDS`` to answer, then it is cut off."""
        if not self.is_open:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.abort_now)
        # Whoever waits for room to write an answer must learn that there is nobody to answer.
        self.writable.set()

    def abort_now(self) -> None:
        """Cut the connection."""
        self.transport.abort()

    async def send(self, message: ASGISendEvent) -> None:
        """What the app sends by itself; after ``close_now`` there is nobody to send to."""
        if self.handshake_complete:
            await self.writable.wait()
            if self.close_sent:
                raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # refused: for uvicorn, too, the handshake is over
