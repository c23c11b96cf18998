"""One open WebSocket after its handshake: a transport, and no more than it needs (RFC 6455).

Most connections only ever send pongs, so the library's parser is made for a connection when another frame comes.
Snapshots go past all of this, straight to the socket (``podium.scoreboard.audience``).
"""

import asyncio
import logging
import socket
import time
from abc import ABC, abstractmethod
from typing import Any, Final

from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from podium.common.tokens import Claims
from podium.scoreboard.hub import Hub
from podium.scoreboard.leases import Lease
from podium.scoreboard.pace import FLOODED, after_frame, is_flood, is_too_fast
from podium.scoreboard.representations import OP_PING, PLAIN, Published, document, frame
from podium.scoreboard.watcher import NO_DESCRIPTOR, Watcher

CLOSE_SECONDS: Final = 2.0
"""How long a peer may take to answer a close before the connection is cut."""

MAX_FRAME_BYTES: Final = 64 * 1024
"""Larger messages end the connection (1009); between the contract's limit and this one they are only an error."""

SEND_BUFFER_BYTES: Final = 64 * 1024
"""Cap of the kernel's buffer for one connection: without it megabytes vanish there before a reader shows as slow."""

SLICE_BYTES: Final = 4096
"""How much is parsed in one go: a flood of tiny frames is noticed before the rest of it costs anything."""

_PING: Final = frame(b"", OP_PING)
_EMPTY_PONG: Final = b"\x8a\x80"
"""How the answer to our ping begins: final pong, masked, no content."""
_EMPTY_PONG_BYTES: Final = 6

_log = logging.getLogger("podium.websocket")
_log.setLevel(logging.WARNING)  # at a finer level the library logs messages, tokens among them


class Service(ABC):
    """What connections need of the app; one object for all of them."""

    hub: Hub

    @abstractmethod
    def take(self, connection: "Connection", text: str | None) -> None:
        """A message came: its text, None for a binary one."""

    @abstractmethod
    def refuse(self, connection: "Connection") -> None:
        """A message came too soon after others and is not carried out."""

    @abstractmethod
    def flooded(self, connection: "Connection") -> None:
        """The client goes on all the same: nothing more of it is read, the connection is to be closed."""

    @abstractmethod
    def ended(self, connection: "Connection") -> None:
        """A connection ended, or is about to and takes nothing more; called once."""


class Connection(Watcher, asyncio.Protocol):
    """One connection. ``claims`` and ``lease`` are kept for the service."""

    __slots__ = (
        *("_close_timer", "_connections", "_due", "_ended", "_fragments", "_parser", "_service", "_transport"),
        *("claims", "lease"),
    )
    kind = "websocket"

    def __init__(
        self, service: Service, transport: asyncio.Transport, connections: set[Any], encoding: int = PLAIN
    ) -> None:
        raw = transport.get_extra_info("socket")
        secure = transport.get_extra_info("sslcontext") is not None
        descriptor = NO_DESCRIPTOR if raw is None or secure else raw.fileno()
        super().__init__(time.monotonic(), descriptor=descriptor, encoding=encoding)
        self._service = service
        self._transport = transport
        self._connections = connections
        self.claims: Claims | None = None
        self.lease: Lease | None = None
        self._parser: ServerProtocol | None = None
        self._due = 0.0
        """The pace of the client, as ``podium.scoreboard.pace`` has it."""
        self._fragments: bytearray | None = None
        """Opcode and content of a message of which more will come."""
        self._close_timer: asyncio.TimerHandle | None = None
        self._ended = False

    # To the peer

    @property
    def is_open(self) -> bool:
        """Whether frames may be written: before any close."""
        return not self._ended and not self._transport.is_closing()

    def send(self, published: Published) -> None:
        """Write a snapshot."""
        self._transport.write(published.frame_for(self.encoding))

    def send_rest(self, frame: bytes, written: int) -> None:
        """Let the transport wait until the socket takes the rest."""
        if self.is_open:
            self._transport.write(frame[written:])

    def answer(self, message: dict[str, Any]) -> None:
        """Write a message to this watcher alone."""
        if self.is_open:
            self._transport.write(frame(document(message)))

    def beat(self, heartbeat: bytes) -> None:
        """Write a heartbeat, and a ping that the peer has to answer."""
        self._transport.write(frame(heartbeat) + _PING)

    def close(self, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        """Send a close frame; the peer has ``CLOSE_SECONDS`` to answer, then it is cut off."""
        if not self.is_open:
            return
        parser = self._library()
        if parser.state is not OPEN:  # the peer's own close is being answered
            self._end()
            return
        parser.send_close(code, reason)
        self._flush(parser)
        self._end()
        self._transport.resume_reading()
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Cut the connection."""
        self._end()
        self._transport.abort()

    # From the peer

    def data_received(self, data: bytes) -> None:
        """Bytes came: a pong nearly always."""
        if self._parser is None and len(data) == _EMPTY_PONG_BYTES and data.startswith(_EMPTY_PONG):
            self.last_frame = time.monotonic()
            return
        parser = self._library()
        for start in range(0, len(data), SLICE_BYTES):
            if self._due == FLOODED:
                break
            parser.receive_data(data[start : start + SLICE_BYTES])
            for event in parser.events_received():
                assert isinstance(event, Frame)
                if not self._ended:
                    self._take(event, time.monotonic())
            self._flush(parser)
        if parser.close_rcvd is not None or parser.parser_exc is not None:
            self._end()
            self._transport.close()

    def _take(self, event: Frame, now: float) -> None:
        self.last_frame = now
        self._due = after_frame(self._due, now)
        if is_flood(self._due, now):
            self._due = FLOODED
            self._service.flooded(self)
            return
        if event.opcode is Opcode.TEXT or event.opcode is Opcode.BINARY:
            self._fragments = bytearray([event.opcode])
        elif event.opcode is not Opcode.CONT or self._fragments is None:
            return  # the library answers pings and closes
        self._fragments += event.data
        if event.fin:
            opcode, data, self._fragments = self._fragments[0], bytes(self._fragments[1:]), None
            if is_too_fast(self._due, now):
                self._service.refuse(self)
            else:
                self._message(data, is_text=opcode == Opcode.TEXT)

    def _message(self, data: bytes, *, is_text: bool) -> None:
        try:
            text = data.decode() if is_text else None
        except UnicodeDecodeError:
            self.close(CloseCode.INVALID_DATA, "not UTF-8")
            return
        self._service.take(self, text)

    def pause_writing(self) -> None:
        """The socket stopped taking bytes; what it asks for is not read meanwhile, so nothing piles up."""
        self._service.hub.blocked(self)
        if not self._ended:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The socket took all that waited."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._service.hub.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._connections.discard(self)
        self._end()

    def shutdown(self) -> None:
        """The server stops."""
        self.close(1012, "the server stops")

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._service.ended(self)

    def _library(self) -> ServerProtocol:
        """The library's side of this connection, made when it is first needed."""
        if self._parser is None:
            self._parser = ServerProtocol(state=OPEN, max_size=MAX_FRAME_BYTES, logger=_log)
            if self.encoding != PLAIN:
                self._parser.extensions = [_inflation()]
        return self._parser

    def _flush(self, parser: ServerProtocol) -> None:
        data = b"".join(parser.data_to_send())
        if data and not self._transport.is_closing():
            self._transport.write(data)


def limit_buffers(transport: asyncio.Transport) -> None:
    """Have little wait for a slow reader: nothing in the transport untold, and not much in the kernel."""
    transport.set_write_buffer_limits(high=0)  # each byte that the socket does not take is told at once
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def _inflation() -> Extension:
    """The extension as it was negotiated: no message rests on another."""
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=15,
        local_max_window_bits=15,
    )
