"""uvicorn's HTTP protocol with a shorter way for correct score updates; everything else goes its usual way.

The library's parser reads the request. When it is a score update that ``podium.scores.lean`` recognises, it joins the
next batch as it is, and its answer is one write after COMMIT: no ASGI scope, task or messages. Everything else is
handed to uvicorn as if it had come this moment.
"""

import asyncio
import time
from collections import deque
from typing import Any, ClassVar, Final

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from podium.common.metrics import HTTP_DURATION
from podium.common.problems import MEDIA_TYPE, Problem, problem_body
from podium.common.security_events import SecurityEvents
from podium.scores.answers import (
    FORBIDDEN,
    REPLAYED_NONCE,
    failure_problem,
    overloaded,
    rate_limit,
    rate_limit_policy,
    refusal_problem,
)
from podium.scores.batcher import Batcher
from podium.scores.committer import Settled
from podium.scores.domain import Accepted, Replayed, Update
from podium.scores.domain_body import MAX_BODY_BYTES
from podium.scores.domain_rules import Refusal, Rules
from podium.scores.lean import PATH, Recognizer
from podium.scores.metrics import ACTIONS, UPDATES

STATE: Final = "lean_updates"
"""Name in the lifespan's state under which the protocol finds its ``LeanUpdates``."""

TURNS: Final = 64
"""Requests of an overload that are answered in one round of the event loop, so that batches under way go first."""

_PATH: Final = PATH.encode()
_NO_TRACE: Final = "0" * 32
_access = structlog.get_logger("podium.access")


class LeanUpdates:
    """What all connections share."""

    def __init__(
        self, recognizer: Recognizer, rules: Rules, batcher: Batcher[Update, Settled], events: SecurityEvents
    ) -> None:
        self.recognise = recognizer.recognise
        self.batcher = batcher
        self.events = events
        self.accepted = UPDATES.labels("accepted")
        self.replayed = UPDATES.labels("replayed")
        self.shed = UPDATES.labels("dependency-unavailable")
        self.actions = {kind: ACTIONS.labels(kind) for kind in rules.action_types}
        self.duration = HTTP_DURATION.labels("scores", "POST", PATH, "200")
        self.shed_duration = HTTP_DURATION.labels("scores", "POST", PATH, "503")
        self.shed_answer = _render(overloaded(), _NO_TRACE)
        self._parked: deque[LeanRequest] = deque()
        self._next_turns: asyncio.Handle | None = None

    def park(self, request: "LeanRequest") -> None:
        """Have ``request`` wait for its turn; until it is answered its client sends no other."""
        self._parked.append(request)
        if self._next_turns is None:
            self._next_turns = asyncio.get_running_loop().call_soon(self._give_turns)

    def _give_turns(self) -> None:
        self._next_turns = None
        try:
            for _ in range(min(len(self._parked), TURNS)):
                self._parked.popleft().take_turn()
        finally:
            if self._parked and self._next_turns is None:
                self._next_turns = asyncio.get_running_loop().call_soon(self._give_turns)


class _Ignored:
    """Stands where uvicorn wakes a task that waits for a request's body."""

    def set(self) -> None:
        """Nobody waits."""


class LeanRequest:
    """One request until it is answered; to uvicorn the cycle of a request whose answer is under way."""

    __slots__ = (
        *("_address", "_body", "_claims", "_headers", "_lean", "_protocol", "_started", "_trace_id", "_action"),
        *("disconnected", "keep_alive", "response_complete"),
    )
    message_event: ClassVar[_Ignored] = _Ignored()

    def __init__(
        self, protocol: "UpdateProtocol", lean: LeanUpdates, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        self._protocol = protocol
        self._lean = lean
        self._headers = headers
        self._body = body
        self._started = time.perf_counter()
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False

    def join(self) -> bool:
        """Join the next batch; False, and nothing is done, where the request is to be looked at closely."""
        recognised = self._lean.recognise(self._headers, self._body, self._protocol.client)
        if recognised is None:
            return False
        update, self._claims = recognised
        self._address = update.ip_address or ""
        self._action = update.action_type
        self._trace_id = update.trace_id or _NO_TRACE
        self._lean.batcher.add(update, self.settle)
        return True

    def take_turn(self) -> None:
        """Join a batch after all, if there is room by now; else be refused."""
        if self.disconnected:
            return
        if self._lean.batcher.overloaded or not self.join():
            self._shed()

    def _shed(self) -> None:
        """Answer 503, nothing having been spent on the request but its reading."""
        lean = self._lean
        trace_id = next((value[3:35] for name, value in self._headers if name == b"traceparent"), b"")
        answer = lean.shed_answer
        if len(trace_id) == len(_NO_TRACE) and trace_id.isalnum():
            answer = answer.replace(_NO_TRACE.encode(), trace_id)
        self._send(STATUS_LINE[503], answer)
        lean.shed.inc()
        lean.shed_duration.observe(time.perf_counter() - self._started)

    def settle(self, result: Settled | BaseException) -> None:
        """Answer; called once, after COMMIT or when it is clear that there will be none."""
        if isinstance(result, BaseException):
            self._refuse(failure_problem(result))
            return
        outcome = result.outcome
        lean = self._lean
        if isinstance(outcome, Accepted):
            lean.accepted.inc()
            lean.actions[self._action].inc()
            policy = rate_limit_policy(outcome.standing.limit)
            extra = f"ratelimit-policy: {policy}\r\nratelimit: {rate_limit(outcome.standing)}\r\n"
        elif isinstance(outcome, Replayed):
            lean.replayed.inc()
            extra = "idempotent-replayed: true\r\n"
        else:
            self._report(outcome)
            self._refuse(refusal_problem(outcome))
            return
        body = outcome.body
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\ncache-control: no-store\r\n{extra}\r\n"
        )
        self._send(b"HTTP/1.1 200 OK\r\n", head.encode("latin-1") + body)
        lean.duration.observe(time.perf_counter() - self._started)

    def _report(self, refusal: Refusal) -> None:
        if refusal is REPLAYED_NONCE:
            kind, detail = "replayed-nonce", "a nonce was sent twice"
        elif refusal.slug in FORBIDDEN:
            kind, detail = "banned-attempt", refusal.detail
        else:
            return
        claims = self._claims
        self._lean.events.report(
            kind,
            user_id=claims.sub,
            client_id=claims.client_id,
            sid=claims.sid,
            ip_address=self._address,
            detail=detail,
            trace_id=self._trace_id,
        )

    def _refuse(self, problem: Problem) -> None:
        UPDATES.labels(problem.slug).inc()
        self._send(STATUS_LINE[problem.status], _render(problem, self._trace_id))
        seconds = time.perf_counter() - self._started
        HTTP_DURATION.labels("scores", "POST", PATH, str(problem.status)).observe(seconds)
        _access.info(
            "request",
            method="POST",
            route=PATH,
            status=problem.status,
            milliseconds=round(seconds * 1000, 2),
            client=self._address,
            user=self._claims.sub,
            trace_id=self._trace_id,
        )

    def _send(self, status_line: bytes, rest: bytes) -> None:
        self.response_complete = True
        self._protocol.answer(self, status_line, rest)


class UpdateProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lean: LeanUpdates | None = self.app_state.get(STATE)
        self._is_lean = False
        self._parts: list[bytes] = []
        self._size = 0

    # Parser callbacks, in the order in which they come.
    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_lean = False

    def on_headers_complete(self) -> None:
        parser, cycle = self.parser, self.cycle
        self._is_lean = (
            self.url == _PATH
            and self._lean is not None
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
        )
        if self._is_lean:
            self._parts, self._size = [], 0
        else:
            self._go_the_usual_way()

    def on_body(self, body: bytes) -> None:
        if not self._is_lean:
            super().on_body(body)
            return
        self._parts.append(body)
        self._size += len(body)
        if self._size > MAX_BODY_BYTES and len(self._parts) > 1:
            self._go_the_usual_way()

    def on_message_complete(self) -> None:
        if not self._is_lean:
            super().on_message_complete()
            return
        lean = self._lean
        assert lean is not None
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        request = LeanRequest(self, lean, self.headers, body)
        if lean.batcher.overloaded:
            lean.park(request)
        elif not request.join():
            self._go_the_usual_way()
            super().on_message_complete()
            return
        self.cycle = request  # type: ignore[assignment]

    def answer(self, request: LeanRequest, status_line: bytes, rest: bytes) -> None:
        """Write the whole answer to ``request`` and be ready for the next."""
        if request.disconnected or self.transport.is_closing():
            return
        common = self.server_state.default_headers
        head = b"".join([b"%b: %b\r\n" % header for header in common])
        if request.keep_alive:
            self.transport.write(status_line + head + rest)
        else:
            self.transport.write(status_line + head + b"connection: close\r\n" + rest)
            self.transport.close()
        self.on_response_complete()

    def _go_the_usual_way(self) -> None:
        """Hand what has been read of the request to uvicorn."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()
        parts, self._parts, self._is_lean = self._parts, [], False
        for part in parts:
            super().on_body(part)


def _render(problem: Problem, trace_id: str) -> bytes:
    """The headers and body of a problem document."""
    body = problem_body(problem, trace_id)
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        **{name.lower(): value for name, value in problem.headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return head.encode("latin-1") + b"\r\n" + body
