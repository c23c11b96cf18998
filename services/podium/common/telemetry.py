"""OpenTelemetry tracing: set-up, W3C trace context, and the ASGI middleware that makes the server span of a request."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from podium.common.client_address import client_ip
from podium.common.metrics import HTTP_DURATION
from podium.common.settings import ProcessSettings, TelemetrySettings

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""W3C Trace Context, version 00."""

UNSAMPLED = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00")
"""A ``traceparent`` of which nothing is recorded, as it stands in a request."""

_QUIET = frozenset({"/healthz/live", "/healthz/ready", "/metrics"})
"""Paths of probes and scrapes: no span and no access log, or they would drown the rest."""

tracer = trace.get_tracer("podium")
_access = structlog.get_logger("podium.access")


def setup(service: str, process: ProcessSettings, settings: TelemetrySettings) -> TracerProvider:
    """Install the tracer provider of this process; spans are exported over OTLP/HTTP where an endpoint is set."""
    resource = Resource.create(
        {
            "service.name": settings.service_name or f"podium-{service}",
            "service.namespace": process.namespace,
            "service.instance.id": process.pod,
            "podium.scoreboard": process.name,
        }
    )
    provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(settings.traces_sampler_arg))
    if settings.exporter_otlp_endpoint:
        endpoint = settings.exporter_otlp_endpoint.rstrip("/") + settings.OTLP_PATH
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    return provider


def parse_traceparent(traceparent: str | None) -> SpanContext | None:
    """The span context in a ``traceparent`` header, or None where it is absent or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if not match:
        return None
    trace_id, span_id, flags = match.groups()
    context = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return context if context.is_valid else None


def format_traceparent(context: SpanContext) -> str:
    """``context`` as a ``traceparent`` header."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def context_from(traceparent: str | None) -> Context | None:
    """A parent context for ``tracer.start_span(context=…)``, or None where there is no valid traceparent."""
    parent = parse_traceparent(traceparent)
    return trace.set_span_in_context(NonRecordingSpan(parent)) if parent else None


def current_traceparent() -> str | None:
    """The current span as a ``traceparent`` header, or None outside a span."""
    context = trace.get_current_span().get_span_context()
    return format_traceparent(context) if context.is_valid else None


def current_trace_id() -> str:
    """The current trace, 32 hex digits; zeros outside a span."""
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


def is_sampled(traceparent: str | None) -> bool:
    """Whether the trace of ``traceparent`` is recorded."""
    context = parse_traceparent(traceparent)
    return bool(context and context.trace_flags.sampled)


def links_to(traceparents: Iterable[str | None]) -> Sequence[Link]:
    """Links from shared work (a commit, a batch, a push) to the updates it serves."""
    contexts = (parse_traceparent(one) for one in traceparents)
    return [Link(context) for context in contexts if context]


class TraceMiddleware:
    """Server span, duration metric and access log for each HTTP request and WebSocket of an ASGI app.

    A route may set ``scope["podium.route"]`` to its template; else FastAPI's route path is used, so that names and
    labels stay few. Query strings and headers are never recorded: they may carry secrets.
    """

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "WS")
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        parent = context_from(headers.get(b"traceparent", b"").decode("latin-1"))
        attributes = {
            "http.request.method": method,
            "url.path": scope["path"],
            "client.address": client_ip(scope),
        }
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        started = time.perf_counter()
        with tracer.start_as_current_span(
            f"{method} {scope['path']}", context=parent, kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            structlog.contextvars.clear_contextvars()
            try:
                await self._app(scope, receive, observed)
            finally:
                seconds = time.perf_counter() - started
                route = _route_of(scope)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                if status >= 500 or status == 0:
                    span.set_status(Status(StatusCode.ERROR))
                if scope["type"] == "http":
                    HTTP_DURATION.labels(self._service, method, route, str(status)).observe(seconds)
                _access.info(
                    "request",
                    method=method,
                    route=route,
                    status=status,
                    milliseconds=round(seconds * 1000, 2),
                    client=attributes["client.address"],
                )


def _route_of(scope: Scope) -> str:
    given: Any = scope.get("podium.route") or getattr(scope.get("route"), "path", None)
    return str(given) if given else "unmatched"
