"""Prometheus metrics that every service has, and the endpoint that serves them all."""

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.responses import Response

HTTP_DURATION = Histogram(
    "podium_http_request_duration_seconds",
    "Duration of HTTP requests in seconds",
    ["service", "method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
STORE_FAILURES = Counter(
    "podium_store_failures_total", "Calls that failed because a store was away", ["store", "operation"]
)


def install(app: FastAPI) -> None:
    """Serve the process's registry at ``/metrics`` (not in the OpenAPI description: it never passes the gateway)."""

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
