"""Errors as RFC 9457 problem documents; every service answers in this form."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from podium.common.telemetry import current_trace_id

TYPE_PREFIX = "https://podium.dev/problems/"
MEDIA_TYPE = "application/problem+json"

_TITLES = {
    "malformed-request": "The request is malformed",
    "digest-mismatch": "The body does not match its digest",
    "token-missing": "An access token is required",
    "token-invalid": "The access token is not valid",
    "token-expired": "The access token has expired",
    "signature-missing": "A request signature is required",
    "signature-invalid": "The request signature is not valid",
    "replayed-nonce": "The nonce has been used before",
    "scope-missing": "The token lacks a scope",
    "user-banned": "The user is banned",
    "blocked-by-anomaly": "The user is blocked for a time",
    "body-too-large": "The body is too large",
    "unsupported-media-type": "The media type is not supported",
    "unknown-action": "The action is not known",
    "invalid-action-data": "The action's data is not valid",
    "stale-timestamp": "The timestamp is too far from now",
    "action-id-reused": "The actionId was used with another body",
    "rate-limited": "Too many requests",
    "too-many-connections": "Too many connections",
    "database-unavailable": "The database is unavailable",
    "dependency-unavailable": "A dependency is unavailable",
    "not-found": "There is nothing here",
    "method-not-allowed": "The method is not allowed here",
    "user-unknown": "The user is not known",
    "board-unknown": "The board is not known",
    "season-unknown": "The season is not known",
    "report-unknown": "The report is not known",
    "dead-letter-unknown": "The dead letter is not known",
    "not-replayable": "The dead letter cannot be replayed",
    "upgrade-required": "This address speaks WebSocket",
    "internal-error": "The service failed",
}


class FieldError(BaseModel):
    """One validation error: a JSON pointer (RFC 6901) into the request and what is wrong there."""

    pointer: str
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457 problem document, as published in the OpenAPI description."""

    type: str = Field(examples=[TYPE_PREFIX + "malformed-request"])
    title: str
    status: int
    detail: str
    traceId: str = Field(description="trace of this request, 32 hex digits")  # noqa: N815
    errors: list[FieldError] | None = None


class Problem(Exception):
    """An answer other than success. ``slug`` ends the problem's type; ``headers`` are added to the answer."""

    def __init__(
        self,
        slug: str,
        status: int,
        detail: str,
        *,
        errors: Sequence[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {slug}: {detail}")
        self.slug = slug
        self.status = status
        self.detail = detail
        self.errors = tuple(errors or ())
        self.headers = dict(headers or {})


class StoreUnavailable(Exception):
    """A store (Postgres, Redis, NATS) cannot be reached; the same call may succeed later."""

    def __init__(self, store: str) -> None:
        super().__init__(f"{store} is unavailable")
        self.store = store


def unauthorized(slug: str, detail: str) -> Problem:
    """A 401 with the ``WWW-Authenticate`` header that RFC 9110 asks for (error codes of RFC 6750)."""
    if slug in {"token-missing"}:
        challenge = 'Bearer realm="podium"'
    elif slug in {"token-invalid", "token-expired"}:
        challenge = f'Bearer realm="podium", error="invalid_token", error_description="{detail}"'
    else:
        challenge = f'Signature realm="podium", error="{slug}"'
    return Problem(slug, 401, detail, headers={"WWW-Authenticate": challenge})


def rate_limited(detail: str, *, policy: str, limit: int, window: float, retry_after: float) -> Problem:
    """A 429 that says when to come back (draft-ietf-httpapi-ratelimit-headers).

    ``window`` and ``retry_after`` are seconds.
    """
    seconds = max(1, math.ceil(retry_after))
    return Problem(
        "rate-limited",
        429,
        detail,
        headers={
            "Retry-After": str(seconds),
            "RateLimit-Policy": f'"{policy}";q={limit};w={math.ceil(window)}',
            "RateLimit": f'"{policy}";r=0;t={seconds}',
        },
    )


def unavailable(store: str, *, retry_after: int = 1) -> Problem:
    """A 503 for a store that is away; ``retry_after`` in seconds."""
    slug = "database-unavailable" if store == "postgres" else "dependency-unavailable"
    return Problem(slug, 503, f"{store} is unavailable; try again", headers={"Retry-After": str(retry_after)})


def problem_body(problem: Problem, trace_id: str) -> bytes:
    """The problem document as JSON bytes."""
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.slug,
        "title": _TITLES.get(problem.slug) or HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "traceId": trace_id,
    }
    if problem.errors:
        document["errors"] = [error.model_dump() for error in problem.errors]
    return msgspec.json.encode(document)


def problem_response(problem: Problem, trace_id: str | None = None) -> Response:
    """The problem as an HTTP answer; never cached."""
    return Response(
        problem_body(problem, trace_id or current_trace_id()),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers},
    )


def documented(*rows: tuple[int, str]) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: for each (status, slug) the problem document, slugs of one status together."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for status, slug in rows:
        entry = by_status.setdefault(
            status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}},
        )
        entry["description"] = f"{entry['description']}, `{slug}`".lstrip(", ")
    return by_status


def pointer(location: Sequence[str | int]) -> str:
    """JSON pointer (RFC 6901) of a validation error's location, the leading ``body`` or ``query`` left off."""
    parts = location[1:] if location and location[0] in {"body", "query", "path", "header"} else location
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _drop_default_validation(document: dict[str, Any]) -> None:
    """Take FastAPI's own 422 out of an OpenAPI document: a request that is not valid is answered with a problem."""
    for item in document.get("paths", {}).values():
        for operation in item.values():
            answer = operation.get("responses", {}).get("422", {})
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            if schema.get("$ref", "").endswith("/HTTPValidationError"):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def install(app: FastAPI) -> None:
    """Map every error of ``app`` to a problem document: Problem, validation, 404, 405, stores away, the unexpected."""
    log = structlog.get_logger("podium.problems")

    async def on_problem(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, Problem)
        return problem_response(exc)

    async def on_unavailable(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, StoreUnavailable)
        return problem_response(unavailable(exc.store))

    async def on_validation(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        errors = [FieldError(pointer=pointer(error["loc"]), detail=error["msg"]) for error in exc.errors()]
        return problem_response(Problem("malformed-request", 400, "the request is not valid", errors=errors))

    async def on_http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        slug = {404: "not-found", 405: "method-not-allowed"}.get(exc.status_code, "malformed-request")
        detail = {404: f"nothing at {request.url.path}", 405: f"{request.method} is not allowed here"}
        headers = dict(exc.headers or {})
        return problem_response(
            Problem(slug, exc.status_code, detail.get(exc.status_code, str(exc.detail)), headers=headers)
        )

    async def on_unexpected(_: Request, exc: Exception) -> Response:
        log.error("request failed", error=type(exc).__name__, exc_info=exc)
        return problem_response(Problem("internal-error", 500, "an unexpected error; the trace has more"))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(StoreUnavailable, on_unavailable)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_unexpected)

    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "ProblemDocument" not in schemas:
            model = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(model.pop("$defs", {}))
            schemas["ProblemDocument"] = model
        _drop_default_validation(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
