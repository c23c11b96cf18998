"""How every service's FastAPI app is made: problem documents, health, metrics and one server span per request."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from podium.common import metrics, problems
from podium.common.health import Health
from podium.common.telemetry import TraceMiddleware

Lifespan = (
    Callable[[FastAPI], AbstractAsyncContextManager[None]]
    | Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]
)

API_VERSION = "1"
"""Major version of the public interface."""


def make_app(
    service: str, description: str, health: Health, lifespan: Lifespan, *, openapi_url: str | None = "/openapi.json"
) -> FastAPI:
    """The app of ``service``, to which the service adds its routes; ``openapi_url`` None where it publishes its own."""
    app = FastAPI(
        title=f"Podium {service}",
        version=API_VERSION,
        description=description,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=openapi_url,
        redirect_slashes=False,
        # TraceMiddleware makes the server span; the framework's own spans and metrics would double it.
        telemetry={"tracing": False, "operation_spans": False, "metrics": False, "logs": False},
    )
    problems.install(app)
    health.install(app)
    metrics.install(app)
    app.add_middleware(TraceMiddleware, service=service)
    return app
