"""The WebSocket ``/ws/scoreboard``: handshake, messages of the client, and their end."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Scope

from podium.common.client_address import client_ip
from podium.common.problems import Problem, problem_response
from podium.common.tokens import Claims, TokenError, TokenInvalid, TokenVerifier
from podium.scoreboard import metrics
from podium.scoreboard.connection import Connection, Service
from podium.scoreboard.handshake import BEARER_PREFIX, SUBPROTOCOL, Offer, agent_class
from podium.scoreboard.keeper import GOING_AWAY, Keeper
from podium.scoreboard.leases import Lease, Limiter
from podium.scoreboard.websocket_protocol import EXTENSION, HandshakeProtocol

TOO_MANY: Final = 4009

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class MessageError(Exception):
    """A client's message that cannot be carried out; it is answered and the connection kept."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Gateway:
    """Lets watchers in: token, connection limits, drain. Shared by WebSocket and SSE."""

    def __init__(self, keeper: Keeper, verifier: TokenVerifier, limiter: Limiter) -> None:
        self.keeper = keeper
        self.verifier = verifier
        self.limiter = limiter

    async def admit(self, scope: Scope, claims: Claims | None) -> Lease:
        """A lease for a new connection. Raises Problem: 503 while this pod goes away, 429 at a limit."""
        if self.keeper.draining:
            metrics.CONNECTIONS_REFUSED.labels("draining").inc()
            raise Problem("dependency-unavailable", 503, "this pod is going away", headers={"Retry-After": "1"})
        lease = await self.limiter.acquire(client_ip(scope), claims.sub if claims else None)
        if lease is None:
            metrics.CONNECTIONS_REFUSED.labels("limit").inc()
            raise Problem("too-many-connections", 429, "too many connections are open", headers={"Retry-After": "5"})
        return lease


class WebSocketEndpoint(Service):
    """Serves all connections; ``boards`` are the configured ones, ``default`` the one sent at once."""

    def __init__(self, gateway: Gateway, boards: frozenset[str], default: str, max_message_bytes: int) -> None:
        self.hub = gateway.keeper.hub
        self._gateway = gateway
        self._keeper = gateway.keeper
        self._limiter = gateway.limiter
        self._boards = boards
        self._default = default
        self._max_message_bytes = max_message_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    # Handshake

    async def __call__(self, websocket: WebSocket) -> None:
        """Let a connection in, or say why not; what comes later goes to ``take`` and ``ended``."""
        try:
            claims = self._claims(websocket.scope["subprotocols"])
            lease = await self._gateway.admit(websocket.scope, claims)
        except Problem as problem:
            if isinstance(problem, TokenError):
                metrics.CONNECTIONS_REFUSED.labels("token").inc()
            await websocket.send_denial_response(problem_response(problem))
            return
        connection = None
        try:
            offered = websocket.scope["subprotocols"]
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
            handshake: HandshakeProtocol = websocket.scope["extensions"][EXTENSION]
            connection = handshake.hand_over(partial(Connection, self))
        except (WebSocketDisconnect, OSError):
            pass  # the client did not wait
        finally:
            if connection is None:
                self._limiter.release(lease)
        if connection is not None:
            connection.agent = agent_class(websocket.headers.get("user-agent", ""))
            self.opened(connection, claims, lease)

    def begin(self, offer: Offer, done: Callable[[Lease | None, Claims | None], None]) -> bool:
        """Have a connection let in whose handshake is an ordinary one; False, and nothing is done, where it may not be.

        ``done`` is called with its lease, None at a limit, and its claims.
        """
        if self._keeper.draining or not self.hub.holds(self._default):
            return False
        try:
            claims = self._claims(offer.subprotocols)
        except Problem:
            return False
        user = claims.sub if claims else None
        self._limiter.request(offer.address, user, lambda lease: done(lease, claims))
        return True

    def _claims(self, subprotocols: Sequence[str]) -> Claims | None:
        """The claims of the offered token, None where none is offered. Raises TokenError."""
        tokens = [one for one in subprotocols if one.startswith(BEARER_PREFIX)]
        if not tokens:
            return None
        if len(tokens) > 1:
            raise TokenInvalid("more than one token is offered")
        return self._gateway.verifier.verify(tokens[0].removeprefix(BEARER_PREFIX))

    def opened(self, connection: Connection, claims: Claims | None, lease: Lease) -> None:
        """Take a connection whose handshake is over."""
        connection.lease, connection.claims = lease, claims
        self._keeper.join(connection, self._default)
        if claims is not None:
            self._keeper.authenticate(connection, claims.sid, claims.exp)
        if self._keeper.draining:  # it began during the handshake
            self._keeper.close(connection, GOING_AWAY, '{"retryAfterMs":500}')

    def release(self, lease: Lease) -> None:
        """Give back the lease of a connection that did not come about."""
        self._limiter.release(lease)

    # An open connection

    def ended(self, connection: Connection) -> None:
        """Leave, and give the lease back."""
        self._keeper.leave(connection)
        lease, connection.lease = connection.lease, None
        if lease is not None:
            self._limiter.release(lease)

    def take(self, connection: Connection, text: str | None) -> None:
        """Carry out a client's message, or answer what is wrong with it."""
        try:
            self._take(connection, text)
        except MessageError as error:
            connection.answer({"type": "error", "code": error.code, "detail": error.detail})

    def _take(self, connection: Connection, text: str | None) -> None:
        limit = self._max_message_bytes
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
                connection.answer({"type": "pong"})
            case {"type": "subscribe", "boards": boards}:
                self.hub.subscribe(connection, self._known(boards))
            case {"type": "unsubscribe", "boards": boards}:
                self.hub.unsubscribe(connection, self._known(boards))
            case {"type": "auth", "token": str(token)}:
                self._authenticate(connection, token)
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
        unknown = sorted(set(boards) - self._boards)
        if unknown:
            raise MessageError("board-unknown", f"there is no board {unknown[0][:64]!r}")
        return list(dict.fromkeys(boards))

    def _authenticate(self, connection: Connection, token: str) -> None:
        """Renew the token, or let an anonymous connection become a user's."""
        try:
            claims = self._gateway.verifier.verify(token)
        except Problem as error:
            raise MessageError(error.slug, error.detail) from error
        if connection.claims is not None and claims.sub != connection.claims.sub:
            raise MessageError("token-invalid", "the token is another user's")
        was_anonymous = connection.claims is None
        connection.claims = claims
        self._keeper.authenticate(connection, claims.sid, claims.exp)
        if was_anonymous:
            self._later(self._identify(connection, claims))

    async def _identify(self, connection: Connection, claims: Claims) -> None:
        """Count the connection for its user, too, and end it at the user's limit."""
        lease, connection.lease = connection.lease, None
        if lease is None:
            return  # it ended meanwhile
        grown = await self._limiter.add_user(lease, claims.sub)
        if grown is None:
            self._keeper.close(connection, TOO_MANY, "too many connections of this user")
        elif connection.is_open:
            connection.lease = grown
        else:
            self._limiter.release(grown)

    async def close(self) -> None:
        """Wait for what is under way for connections."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
