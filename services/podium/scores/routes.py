"""``POST /api/v1/scores/update``: the contract's checks in the contract's order, then the batch, then the answer."""

import hashlib
import re
from collections.abc import Callable

import structlog
from fastapi import APIRouter, Request
from opentelemetry import trace
from starlette.responses import Response

from podium.common.problems import FieldError, Problem, StoreUnavailable
from podium.common.telemetry import current_trace_id, format_traceparent, tracer
from podium.scores.answers import FORBIDDEN, failure_problem, rate_limit, rate_limit_policy, refusal_problem
from podium.scores.batcher import Batcher, Overloaded
from podium.scores.committer import Settled
from podium.scores.domain import Accepted, Outcome, Replayed, Update
from podium.scores.domain_body import MAX_BODY_BYTES, Body, MalformedBody, parse_body
from podium.scores.domain_rules import Refusal, Rules
from podium.scores.gate import Caller, Gate
from podium.scores.lean import PATH
from podium.scores.metrics import ACTIONS, UPDATES
from podium.scores.openapi import ANSWERS, REQUEST

MAX_DISCARDED_BYTES = 1024 * 1024
"""How much of a body that is too large is read, in bytes: a client that is still sending would miss the answer."""

_MEDIA_TYPE = re.compile(r'application/json[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?;?', re.IGNORECASE)


class ScoreUpdates:
    """The operation behind the route."""

    def __init__(self, gate: Gate, rules: Rules, batcher: Batcher[Update, Settled]) -> None:
        self._gate = gate
        self._rules = rules
        self._batcher = batcher

    async def handle(self, request: Request) -> Response:
        """Answer one request. Raises Problem for every refusal."""
        try:
            response = await self._handle(request)
        except Problem as problem:
            UPDATES.labels(problem.slug).inc()
            raise
        return response

    async def _handle(self, request: Request) -> Response:
        body = await _read_body(request)
        _check_media_type(request)
        caller = await self._gate.admit(request, body)
        structlog.contextvars.bind_contextvars(user=caller.claims.sub)
        if request.scope["query_string"]:
            raise Problem("malformed-request", 400, "this operation takes no query")
        try:
            parsed = parse_body(body)
        except MalformedBody as error:
            errors = [FieldError(pointer=pointer, detail=detail) for pointer, detail in error.errors]
            raise Problem("malformed-request", 400, str(error), errors=errors) from error
        outcome = await self._settle(caller, parsed, body)
        return self._answer(caller, parsed, outcome)

    async def _settle(self, caller: Caller, parsed: Body, body: bytes) -> Outcome:
        with tracer.start_as_current_span("commit score", record_exception=False) as span:
            context = span.get_span_context()
            update = Update(
                user_id=caller.claims.sub,
                username=caller.claims.username,
                action_id=parsed.action_id,
                action_type=parsed.action_type,
                timestamp=parsed.timestamp,
                metadata=parsed.metadata,
                body_sha256=hashlib.sha256(body).digest(),
                verdict=self._rules.assess(parsed.action_type, parsed.data),
                ip_address=caller.ip_address,
                device_info=caller.device_info,
                request_signature=caller.request_signature,
                traceparent=format_traceparent(context) if context.trace_flags.sampled else None,
                trace_id=current_trace_id(),
            )
            try:
                settled = await self._batcher.submit(update)
            except (Overloaded, StoreUnavailable) as error:
                raise failure_problem(error) from error
            if span.is_recording():
                span.add_link(settled.commit_span)
                span.set_attribute("podium.outcome", type(settled.outcome).__name__)
        return settled.outcome

    def _answer(self, caller: Caller, parsed: Body, outcome: Outcome) -> Response:
        if isinstance(outcome, Refusal):
            if outcome.slug in FORBIDDEN:
                self._gate.report_restricted(caller.claims, caller.ip_address, outcome.detail)
            raise refusal_problem(outcome)
        headers = {"Cache-Control": "no-store"}
        if isinstance(outcome, Replayed):
            UPDATES.labels("replayed").inc()
            headers["Idempotent-Replayed"] = "true"
        elif isinstance(outcome, Accepted):
            UPDATES.labels("accepted").inc()
            ACTIONS.labels(parsed.action_type).inc()
            headers["RateLimit-Policy"] = rate_limit_policy(outcome.standing.limit)
            headers["RateLimit"] = rate_limit(outcome.standing)
        trace.get_current_span().set_attribute("podium.user", caller.claims.sub)
        return Response(outcome.body, media_type="application/json", headers=headers)


def make_router(updates: Callable[[], ScoreUpdates]) -> APIRouter:
    """The route with its documentation; ``updates`` gives the operation once the app has started."""
    router = APIRouter(tags=["scores"])

    @router.post(
        PATH,
        operation_id="updateScore",
        summary="Report an action of a user",
        response_class=Response,
        response_model=None,
        responses=ANSWERS,
        openapi_extra=REQUEST,
    )
    async def update_score(request: Request) -> Response:
        """Report an action; the server decides its points. Answered only once the update is durable.

        Of several faults the first in this order is answered: size, media type, token, scope, ban or block, signature,
        digest, nonce, form of the body, actionId, timestamp, action, its data, limits.
        """
        return await updates().handle(request)

    return router


async def _read_body(request: Request) -> bytes:
    """The body, kept no further than its bound. Raises Problem 413."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        elif size > MAX_DISCARDED_BYTES:
            # The rest would be taken for the next request.
            raise _too_large({"Connection": "close"})
    if size > MAX_BODY_BYTES:
        raise _too_large({})
    return b"".join(parts)


def _too_large(headers: dict[str, str]) -> Problem:
    return Problem("body-too-large", 413, f"the body may have at most {MAX_BODY_BYTES} bytes", headers=headers)


def _check_media_type(request: Request) -> None:
    types = request.headers.getlist("content-type")
    if len(types) != 1 or not _MEDIA_TYPE.fullmatch(types[0].strip(" \t")):
        raise Problem("unsupported-media-type", 415, "the body must be application/json in UTF-8")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem("unsupported-media-type", 415, "the body must not be encoded")
