"""Envoy's own errors as RFC 9457 problem documents, as the services answer theirs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from podium_operator.builders import ratelimit
from podium_operator.spec import JSON

TYPE_PREFIX = "https://podium.dev/problems/"
"""Start of every problem's type; the slug ends it (docs/api.md)."""
RETRY_SECONDS = 1
"""Retry-After, in seconds, of an answer that says a service is away."""

TRACE_HEADER = "x-podium-trace-id"
"""Request header in which the gateway notes its trace, because the text of a local reply cannot ask the tracer."""


TRACE_ID = f'%COALESCE({{"operators":[{{"command":"REQ","param":"{TRACE_HEADER}"}},"STREAM_ID","UNIQUE_ID"]}})%'
"""The trace; the stream's id for a request that was refused before it had one, else a random one."""


@dataclass(frozen=True)
class Problem:
    """What Envoy's own answer with a status becomes."""

    status: int
    slug: str
    title: str
    detail: str
    shown_status: int | None = None
    """The status to answer with, if another."""
    headers: tuple[tuple[str, str], ...] = ()


_LIMITED = (
    ("retry-after", f"%RESP({ratelimit.RESET_HEADER})%"),
    ("ratelimit-policy", f'"gateway";q=%RESP({ratelimit.LIMIT_HEADER})%;w=60'),
    ("ratelimit", f'"gateway";r=0;t=%RESP({ratelimit.RESET_HEADER})%'),
)
"""draft-ietf-httpapi-ratelimit-headers, made from what the rate-limit service says."""
_AWAY = (("retry-after", str(RETRY_SECONDS)),)

PROBLEMS = (
    Problem(400, "malformed-request", "The request is malformed", "the request cannot be understood"),
    Problem(
        403, "malformed-request", "The request is malformed", "no protocol upgrade is possible here", shown_status=400
    ),
    Problem(404, "not-found", "There is nothing here", "there is nothing at this path"),
    Problem(405, "method-not-allowed", "The method is not allowed here", "this path does not take this method"),
    Problem(408, "request-timeout", "The request came too slowly", "the request did not arrive in time"),
    Problem(413, "body-too-large", "The body is too large", "a body may have 16 KiB at most"),
    Problem(426, "malformed-request", "The request is malformed", "this protocol version is not served"),
    Problem(429, "rate-limited", "Too many requests", "too many requests in this minute", headers=_LIMITED),
    Problem(431, "malformed-request", "The request is malformed", "the headers are too large"),
    Problem(500, "internal-error", "The service failed", "an unexpected error; the trace has more"),
    # To a client these are one: try again, with the same actionId.
    Problem(502, "dependency-unavailable", "A dependency is unavailable", "a service gave no valid answer",
            shown_status=503, headers=_AWAY),
    Problem(503, "dependency-unavailable", "A dependency is unavailable", "a service is unavailable; try again",
            headers=_AWAY),
    Problem(504, "dependency-unavailable", "A dependency is unavailable", "a service did not answer in time",
            shown_status=503, headers=_AWAY),
)  # fmt: skip


def local_reply_config() -> JSON:
    """`local_reply_config` of the HTTP connection manager."""
    return {"mappers": [_mapper(problem) for problem in PROBLEMS]}


def _mapper(problem: Problem) -> JSON:
    status = problem.shown_status or problem.status
    document = {
        "type": TYPE_PREFIX + problem.slug,
        "title": problem.title,
        "status": status,
        "detail": problem.detail,
        "traceId": TRACE_ID,
    }
    headers = (("cache-control", "no-store"), *problem.headers)
    return {
        "filter": {
            "status_code_filter": {
                "comparison": {
                    "op": "EQ",
                    "value": {"default_value": problem.status, "runtime_key": f"podium.status_{problem.status}"},
                }
            }
        },
        **({"status_code": status} if status != problem.status else {}),
        "headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers
        ],
        "body_format_override": {"json_format": document, "content_type": "application/problem+json"},
    }
