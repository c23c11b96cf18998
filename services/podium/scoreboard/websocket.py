"""The WebSocket ``/ws/scoreboard``: handshake, messages of the client, and the watcher the hub writes to."""

import time
from typing import Any, Final

import msgspec
from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Scope

from podium.common.client_address import client_ip
from podium.common.problems import Problem, problem_response
from podium.common.tokens import Claims, TokenError, TokenInvalid, TokenVerifier
from podium.scoreboard import metrics
from podium.scoreboard.hub import GOING_AWAY, Hub
from podium.scoreboard.leases import Lease, Limiter
from podium.scoreboard.representations import OP_PING, Published, document, frame
from podium.scoreboard.watcher import Watcher
from podium.scoreboard.websocket_protocol import EXTENSION, FanoutProtocol

SUBPROTOCOL: Final = "podium.v1"
BEARER_PREFIX: Final = "bearer."
TOO_MANY: Final = 4009
_PING: Final = frame(b"", OP_PING)

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class MessageError(Exception):
    """A client's message that cannot be carried out; it is answered and the connection kept."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class WebSocketWatcher(Watcher):
    """Writes ready-made frames straight to the connection."""

    kind = "websocket"

    def __init__(self, protocol: FanoutProtocol, hub: Hub) -> None:
        super().__init__(time.monotonic())
        self._protocol = protocol
        protocol.on_blocked = lambda: hub.blocked(self)
        protocol.on_drained = lambda: hub.drained(self)
        protocol.on_frame = self._heard

    def _heard(self) -> None:
        self.last_frame = time.monotonic()

    @property
    def is_open(self) -> bool:
        return self._protocol.is_open

    def send(self, published: Published) -> None:
        self._protocol.write_frame(published.frame)

    def beat(self, heartbeat: bytes) -> None:
        self._protocol.write_frame(frame(heartbeat) + _PING)

    def close(self, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        self._protocol.close_now(code, reason)

    def abort(self) -> None:
        self._protocol.abort_now()


class Gateway:
    """Lets watchers in: token, connection limits, drain. Shared by WebSocket and SSE."""

    def __init__(self, hub: Hub, verifier: TokenVerifier, limiter: Limiter) -> None:
        self.hub = hub
        self.verifier = verifier
        self._limiter = limiter

    async def admit(self, scope: Scope, claims: Claims | None) -> Lease:
        """A lease for a new connection. Raises Problem: 503 while this pod goes away, 429 at a limit."""
        if self.hub.draining:
            metrics.CONNECTIONS_REFUSED.labels("draining").inc()
            raise Problem("dependency-unavailable", 503, "this pod is going away", headers={"Retry-After": "1"})
        lease = await self._limiter.acquire(client_ip(scope), claims.sub if claims else None)
        if lease is None:
            metrics.CONNECTIONS_REFUSED.labels("limit").inc()
            raise Problem("too-many-connections", 429, "too many connections are open", headers={"Retry-After": "5"})
        return lease

    async def identify(self, lease: Lease, claims: Claims) -> Lease | None:
        """Count an anonymous connection for its user; None, and the lease gone, at the user's limit."""
        return await self._limiter.add_user(lease, claims.sub)

    async def dismiss(self, lease: Lease) -> None:
        """Give the lease back."""
        await self._limiter.release(lease)


class WebSocketEndpoint:
    """Serves one connection after another; ``boards`` are the configured ones, ``default`` the one sent at once."""

    def __init__(self, gateway: Gateway, boards: frozenset[str], default: str, max_message_bytes: int) -> None:
        self._gateway = gateway
        self._hub = gateway.hub
        self._boards = boards
        self._default = default
        self._max_message_bytes = max_message_bytes

    async def __call__(self, websocket: WebSocket) -> None:
        """Handshake, then messages until the connection ends."""
        try:
            claims = self._claims(websocket)
            lease = await self._gateway.admit(websocket.scope, claims)
        except Problem as problem:
            if isinstance(problem, TokenError):
                metrics.CONNECTIONS_REFUSED.labels("token").inc()
            await websocket.send_denial_response(problem_response(problem))
            return
        connection = _Connection(self, websocket, lease, claims)
        try:
            offered = websocket.scope["subprotocols"]
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            await connection.run()
        except (WebSocketDisconnect, OSError):
            return  # the ordinary end of a connection
        finally:
            await connection.end()

    def _claims(self, websocket: WebSocket) -> Claims | None:
        """The claims of the offered token, None where none is offered. Raises TokenError."""
        tokens = [one for one in websocket.scope["subprotocols"] if one.startswith(BEARER_PREFIX)]
        if not tokens:
            return None
        if len(tokens) > 1:
            raise TokenInvalid("more than one token is offered")
        return self._gateway.verifier.verify(tokens[0].removeprefix(BEARER_PREFIX))


class _Connection:
    """One open connection."""

    def __init__(self, endpoint: WebSocketEndpoint, websocket: WebSocket, lease: Lease, claims: Claims | None) -> None:
        self._endpoint = endpoint
        self._hub = endpoint._hub
        self._websocket = websocket
        self._lease: Lease | None = lease
        self._claims = claims
        self._watcher = WebSocketWatcher(websocket.scope["extensions"][EXTENSION], self._hub)

    async def run(self) -> None:
        """Take messages until the connection ends."""
        if self._hub.draining:  # it began during the handshake
            self._watcher.close(GOING_AWAY, '{"retryAfterMs":500}')
            return
        if self._claims is not None:
            self._hub.authenticate(self._watcher, self._claims.sid, self._claims.exp)
        self._hub.join(self._watcher, [self._endpoint._default])
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                await self._take(message.get("text"))
            except MessageError as error:
                await self._answer({"type": "error", "code": error.code, "detail": error.detail})

    async def end(self) -> None:
        """Leave the hub and give the lease back."""
        self._hub.leave(self._watcher)
        if self._lease is not None:
            await self._endpoint._gateway.dismiss(self._lease)

    async def _answer(self, message: dict[str, Any]) -> None:
        await self._websocket.send_text(document(message).decode())

    async def _take(self, text: str | None) -> None:
        limit = self._endpoint._max_message_bytes
        if text is None:
            raise MessageError("malformed-message", "messages are JSON text, not binary")
        if len(text) > limit or len(text.encode()) > limit:
            raise MessageError("message-too-large", f"a message holds at most {limit} bytes")
        try:
            message = _decode(text)
        except msgspec.DecodeError as error:
            raise MessageError("malformed-message", "a message is one JSON object") from error
        match message:
            case {"type": "ping"}:
                await self._answer({"type": "pong"})
            case {"type": "subscribe", "boards": boards}:
                self._hub.subscribe(self._watcher, self._known(boards))
            case {"type": "unsubscribe", "boards": boards}:
                self._hub.unsubscribe(self._watcher, self._known(boards))
            case {"type": "auth", "token": str(token)}:
                await self._authenticate(token)
            case {"type": "subscribe" | "unsubscribe"}:
                raise MessageError("malformed-message", "boards is missing: an array of names of boards")
            case {"type": "auth"}:
                raise MessageError("malformed-message", "token is missing: an access token")
            case {"type": str(kind)}:
                raise MessageError("unknown-type", f"no message has the type {kind[:64]!r}")
            case _:
                raise MessageError("malformed-message", "a message has a type")

    def _known(self, boards: object) -> list[str]:
        if not isinstance(boards, list) or not boards or not all(isinstance(board, str) for board in boards):
            raise MessageError("malformed-message", "boards is an array of one or more names of boards")
        unknown = sorted(set(boards) - self._endpoint._boards)
        if unknown:
            raise MessageError("board-unknown", f"there is no board {unknown[0][:64]!r}")
        return list(dict.fromkeys(boards))

    async def _authenticate(self, token: str) -> None:
        """Renew the token, or let an anonymous connection become a user's."""
        try:
            claims = self._endpoint._gateway.verifier.verify(token)
        except TokenError as error:
            raise MessageError(error.slug, error.detail) from error
        if self._claims is None:
            assert self._lease is not None
            self._lease = await self._endpoint._gateway.identify(self._lease, claims)
            if self._lease is None:
                metrics.CLOSED.labels(str(TOO_MANY)).inc()
                self._watcher.close(TOO_MANY, "too many connections of this user")
                return
        elif claims.sub != self._claims.sub:
            raise MessageError("token-invalid", "the token is another user's")
        self._claims = claims
        self._hub.authenticate(self._watcher, claims.sid, claims.exp)
