"""uvicorn's HTTP protocol with a shorter way for ordinary WebSocket handshakes; everything else goes its usual way.

The library's parser reads the request. Where ``podium.scoreboard.handshake`` recognises it, there is no second parser,
ASGI scope, task or message: a lease, one write, and the connection is a ``Connection``. A lease that is refused sends
the request the usual way, as if it had come this moment, so there is one place that says what is wrong.
"""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from podium.common.tokens import Claims
from podium.scoreboard.connection import Connection, limit_buffers
from podium.scoreboard.handshake import PATH, Offer, recognise
from podium.scoreboard.leases import Lease
from podium.scoreboard.websocket import WebSocketEndpoint

STATE: Final = "lean_handshakes"
"""Name in the lifespan's state under which the protocol finds its ``LeanHandshakes``."""

PROTOCOL_ERROR: Final = 1002

_PATH: Final = PATH.encode()


class LeanHandshakes:
    """What all connections share. ``own_traces``: whether requests without a trace of their own may start one."""

    def __init__(self, endpoint: WebSocketEndpoint, *, own_traces: bool) -> None:
        self.endpoint = endpoint
        self.own_traces = own_traces


class Opening(asyncio.Protocol):
    """Has a connection while its lease is asked for."""

    __slots__ = ("_claimed", "_endpoint", "_gone", "_offer", "_usual")

    def __init__(self, usual: "WatchProtocol", endpoint: WebSocketEndpoint, offer: Offer) -> None:
        self._usual = usual
        self._endpoint = endpoint
        self._offer = offer
        self._claimed = False
        self._gone = False

    def begin(self) -> bool:
        """Ask for the lease; False, and nothing is done, where the request has to be looked at closely."""
        usual = self._usual
        if not self._endpoint.begin(self._offer, self._done):
            return False
        if not self._claimed:
            usual.connections.discard(usual)
            cast(set[Any], usual.connections).add(self)
            usual.transport.set_protocol(self)
        return True

    def _done(self, lease: Lease | None, claims: Claims | None) -> None:
        self._claimed = True
        usual, endpoint = self._usual, self._endpoint
        transport, connections = usual.transport, cast(set[Any], usual.connections)
        connections.discard(self)
        if self._gone or transport.is_closing():
            if lease is not None:
                endpoint.release(lease)
        elif lease is None:
            transport.set_protocol(usual)
            usual.usual_upgrade()
        else:
            connections.discard(usual)
            usual.let_go()
            transport.write(self._offer.answer)  # goes out with the snapshot
            limit_buffers(transport)
            connection = Connection(endpoint, transport, connections, self._offer.encoding)
            connection.agent = self._offer.agent
            connections.add(connection)
            transport.set_protocol(connection)
            endpoint.opened(connection, claims, lease)

    def data_received(self, data: bytes) -> None:
        """A client that speaks before it was answered (RFC 6455, section 4.1) is none of ours."""
        self._usual.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client did not wait."""
        self._gone = True
        cast(set[Any], self._usual.connections).discard(self)

    def shutdown(self) -> None:
        """The server stops."""
        self._usual.transport.close()


class WatchProtocol(HttpToolsProtocol):
    """One connection until it is a WebSocket, or for as long as it is none."""

    def handle_websocket_upgrade(self) -> None:
        """Take the short way if the request allows it."""
        lean = cast(LeanHandshakes | None, self.app_state.get(STATE))
        if lean is None or self.url != _PATH or self.scope["http_version"] != "1.1" or self.scope["method"] != "GET":
            self.usual_upgrade()
            return
        peer = self.client[0] if self.client else ""
        offer = recognise(self.headers, peer, own_traces=lean.own_traces)
        if offer is None or not Opening(self, lean.endpoint, offer).begin():
            self.usual_upgrade()

    def usual_upgrade(self) -> None:
        """As uvicorn does it."""
        super().handle_websocket_upgrade()

    def let_go(self) -> None:
        """Free what is kept for requests; the parser and this object hold each other."""
        self.parser = None  # type: ignore[assignment]
