"""uvicorn's WebSocket protocol for the handshake alone: then the connection is handed over.

It is given to uvicorn as ``ws=``. The ASGI app finds it in ``scope["extensions"]["podium.handshake"]``, accepts, takes
the connection with ``hand_over`` and returns; what uvicorn and the library keep for a connection is freed.
"""

import asyncio
import email.utils
import http
import logging
from typing import Any, Final, Protocol, TypeVar, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from podium.common.problems import MEDIA_TYPE, Problem, problem_body
from podium.common.telemetry import current_trace_id
from podium.scoreboard.connection import limit_buffers
from podium.scoreboard.representations import PLAIN

EXTENSION: Final = "podium.handshake"

UVICORN_OPTIONS: Final[dict[str, Any]] = {
    "ws_ping_interval": None,  # one wheel pings all connections
    "ws_ping_timeout": None,
    "ws_per_message_deflate": False,  # negotiated here, so that no message rests on another
}

_DEFLATE: Final = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
"""A frame is made once for everyone, so no message may rest on another."""

_Successor = TypeVar("_Successor", bound=asyncio.Protocol, covariant=True)


class Takeover(Protocol[_Successor]):
    """Makes the protocol that has a connection from now on.

    It takes itself out of ``connections`` when the connection is lost, and ends it in order where uvicorn, which finds
    it there, calls its ``shutdown``.
    """

    def __call__(self, transport: asyncio.Transport, connections: set[Any], encoding: int) -> _Successor:
        """``encoding`` is the form in which the client takes messages."""


class _Gone:
    """Stands for the transport in a protocol that has handed it over."""

    def close(self) -> None:
        """It is somebody else's."""


class _Handshakes(ServerProtocol):
    """The library's side of a handshake; what it refuses becomes a problem document (RFC 9457), as everywhere."""

    def accept(self, request: Request) -> Response:
        """Answer a handshake; one of another version is told which one is spoken (RFC 6455, section 4.2.2)."""
        versions = request.headers.get_all("Sec-WebSocket-Version")
        if versions and versions != ["13"]:
            self.accept_called = True
            response = self.reject(http.HTTPStatus.UPGRADE_REQUIRED, "only version 13 of WebSocket is served")
            response.headers["Upgrade"] = "websocket"
            response.headers["Sec-WebSocket-Version"] = "13"
            return response
        return super().accept(request)

    def reject(self, status: StatusLike, text: str) -> Response:
        """The answer that refuses a handshake for what ``text`` says."""
        wrong = Problem("malformed-request", http.HTTPStatus(status).value, text.partition("\n")[0])
        body = problem_body(wrong, current_trace_id())
        headers = Headers(
            {
                "Date": email.utils.formatdate(usegmt=True),
                "Connection": "close",
                "Content-Length": str(len(body)),
                "Content-Type": MEDIA_TYPE,
                "Cache-Control": "no-store",
            }
        )
        return Response(wrong.status, http.HTTPStatus(status).phrase, headers, body)


class HandshakeProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection until it is open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn logs each handshake with its query string; the access log of the app has what is wanted.
        self.logger = logging.getLogger("podium.websocket")
        self.conn = _Handshakes(extensions=[_DEFLATE], max_size=self.config.ws_max_size, logger=self.logger)
        self.conn.debug = False  # the library logs headers, tokens among them, where it is let

    def handle_connect(self, event: Request) -> None:
        """Show this object to the app."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions = cast(dict[str, object], self.scope["extensions"])
            extensions[EXTENSION] = self

    @property
    def encoding(self) -> int:
        """The negotiated form of messages to the client: ``PLAIN``, or the window of permessage-deflate in bits."""
        for extension in self.conn.extensions:
            if isinstance(extension, PerMessageDeflate):
                return int(extension.local_max_window_bits)
        return PLAIN

    def hand_over(self, make: Takeover[_Successor]) -> _Successor | None:
        """Let the protocol that ``make`` gives have the connection from now on, and return it.

        Only right after the handshake was accepted. None where the connection has ended, or has to, because the client
        spoke before it was answered (RFC 6455, section 4.1).
        """
        transport = self.transport
        if self.disconnected or transport.is_closing() or not self.handshake_complete:
            return None
        if not self.queue.empty() or self.conn.reader.buffer or self.conn.events:
            self.conn.send_close(1002, "a message before the handshake was over")
            transport.write(b"".join(self.conn.data_to_send()))
            return None
        limit_buffers(transport)
        connections = cast(set[Any], self.connections)
        successor = make(transport, connections, self.encoding)
        transport.set_protocol(successor)
        connections.discard(self)
        connections.add(successor)
        self.transport = cast(asyncio.Transport, _Gone())
        return successor

    async def send(self, message: ASGISendEvent) -> None:
        """What the app sends by itself during the handshake."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # refused: for uvicorn, too, the handshake is over
