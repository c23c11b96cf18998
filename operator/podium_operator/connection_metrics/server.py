"""The HTTP side: every request is authenticated, authorised and answered, or refused with a Status. Does I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from podium_operator.builders.base import CONNECTIONS_METRIC
from podium_operator.cluster import Conflict, Refused
from podium_operator.connection_metrics import documents
from podium_operator.connection_metrics.access import Access, Question
from podium_operator.connection_metrics.callers import FrontProxy, Unauthenticated
from podium_operator.connection_metrics.documents import GROUP, VERSIONS
from podium_operator.connection_metrics.readings import Readings

log = logging.getLogger(__name__)

EVERY_POD = "*"
"""Stands for a pod's name where a label selector chooses."""

_HEALTH = "/healthz/"
_ROOT = f"/apis/{GROUP}"
# Nothing else gets into a path of the API server, where both are used with this process's own rights.
_NAMESPACE = "[a-z0-9][a-z0-9-]*"
_POD = r"\*|[a-z0-9][a-z0-9.-]*"
_METRIC_PATH = f"namespaces/{{namespace:{_NAMESPACE}}}/pods/{{name:{_POD}}}/{{metric}}"


class MetricsServer:
    """The routes of one server, given how to know the API server, what to ask it, and how to read the pods."""

    def __init__(
        self,
        front_proxy: Callable[[], FrontProxy],
        access: Access,
        readings: Readings,
        missing: Callable[[], list[str]],
    ) -> None:
        self._front_proxy = front_proxy
        self._access = access
        self._readings = readings
        self._missing = missing

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._refusals, self._guard])
        app.add_routes(
            [
                web.get("/healthz/live", self._live),
                web.get("/healthz/ready", self._ready),
                web.get("/apis", self._document(documents.groups())),
                web.get(_ROOT, self._document(documents.group())),
                *(web.get(f"{_ROOT}/{each}", self._document(documents.resources(each))) for each in VERSIONS),
                *(web.get(f"{_ROOT}/{{version:{each}}}/{_METRIC_PATH}", self._metric) for each in VERSIONS),
            ]
        )
        return app

    @web.middleware
    async def _refusals(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every refusal is a Status object, as clients of Kubernetes expect it."""
        try:
            return await handler(request)
        except Unauthenticated as error:
            return _refusal(401, str(error))
        except web.HTTPException as error:
            return _refusal(error.status, error.text or error.reason)
        except Refused as error:
            if error.status == 400:
                return _refusal(400, str(error))
            log.warning("the API server refused: %s", error)
        except (Conflict, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("the API server did not answer: %s", error)
        return _refusal(503, "the API server could not be asked")

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_HEALTH):
            return await handler(request)
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        user = self._front_proxy().user(certificate, request.headers)
        question = Question(request.path, **dict(request.match_info.items()))
        if not await self._access.allows(user, question):
            raise web.HTTPForbidden(text=f'user "{user.name}" cannot get path "{request.path}"')
        return await handler(request)

    def _document(self, document: object) -> Handler:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(document)

        return answer

    async def _metric(self, request: web.Request) -> web.StreamResponse:
        """Connections of the pods that a selector means, or of one pod."""
        asked, query = request.match_info, request.query
        if asked["metric"] != CONNECTIONS_METRIC:
            raise web.HTTPNotFound(text=f"there is no metric {asked['metric']} of pods, only {CONNECTIONS_METRIC}")
        if query.get("metricLabelSelector"):
            raise web.HTTPBadRequest(text=f"{CONNECTIONS_METRIC} is a sum and has no labels to select")
        namespace, name = asked["namespace"], asked["name"]
        if name == EVERY_POD:
            found = await self._readings.connections(namespace, query.get("labelSelector", ""))
        else:
            found = await self._readings.connections(namespace, name=name)
            if not found:
                raise web.HTTPNotFound(text=f"no connections are known of a pod {namespace}/{name}")
        return web.json_response(documents.values(asked["version"], namespace, found, datetime.now(UTC)))

    async def _live(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        missing = self._missing()
        status = "ok" if not missing else "unavailable"
        return web.json_response({"status": status, "missing": missing}, status=200 if not missing else 503)


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response(documents.error(status, message), status=status)
