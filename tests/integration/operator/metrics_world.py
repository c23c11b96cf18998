"""A metrics server behind a real API server, and pods to ask: the parts that the tests of both share."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from podium_operator.builders.base import CONNECTIONS_METRIC
from podium_operator.cluster import POD, SERVICE, Cluster, Kind
from podium_operator.connection_metrics.registration import API_SERVICE, names
from podium_operator.connection_metrics.settings import MetricsSettings
from podium_operator.spec import JSON
from tests.integration.operator.api_server import ApiServer
from tests.integration.operator.front_proxy import Authority, anonymous
from tests.support.processes import Process, free_ports

SERVICE_NAME = "podium-connection-metrics"
WAIT_SECONDS = 90.0
NAMESPACE = Kind("v1", "Namespace", "namespaces")

GAMES = "metric-games"
"""Namespace of the pods that are asked."""

ALL_PODS = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{GAMES}/pods/*/{CONNECTIONS_METRIC}"

BUSY = """# TYPE podium_scoreboard_connections gauge
podium_scoreboard_connections{kind="websocket",agent="browser"} 400.0
podium_scoreboard_connections{kind="websocket",agent="other"} 30.0
podium_scoreboard_connections{kind="sse",agent="browser"} 2.0
"""
"""What a pod with 432 connections says at `/metrics`."""

FRESH = "# TYPE podium_scoreboard_connections gauge\n"
"""What one says that had none yet."""

OTHER = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.0\n"
"""What one says that knows nothing of connections."""


def settings(port: int = 1, pod_port: int = 1, service: str = SERVICE_NAME) -> MetricsSettings:
    """Settings of a server that listens at 127.0.0.1; the names are those of the chart."""
    return MetricsSettings(
        namespace="podium-system",
        service=service,
        service_port=port,
        owner=SERVICE_NAME,
        host="127.0.0.1",
        port=port,
        pod_port=pod_port,
    )


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError, urllib.error.URLError):
        return bool(urllib.request.urlopen(url, context=anonymous(), timeout=2).status == 200)
    return False


@contextlib.contextmanager
def running(api_server: ApiServer, chosen: MetricsSettings, folder: Path) -> Iterator[Process]:
    """The metrics server as a process, with the rights that the chart gives to its ServiceAccount."""
    kubeconfig = api_server.kubeconfig(folder / "metrics.kubeconfig", api_server.metrics_token)
    variables = {f"PODIUM_CONNECTION_METRICS_{key.upper()}": str(value) for key, value in chosen.model_dump().items()}
    process = Process(
        [sys.executable, "-m", "podium_operator.connection_metrics"],
        folder / "metrics.log",
        lambda: _answers(f"https://127.0.0.1:{chosen.port}/healthz/ready"),
        env={**variables, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    process.start()
    try:
        process.wait_ready(WAIT_SECONDS)
        yield process
    finally:
        process.stop()


async def lead_to_this_machine(admin: Cluster) -> None:
    """A Service behind which there is no pod but this machine: no network of a cluster is needed."""
    meta = {"name": SERVICE_NAME, "namespace": "podium-system"}
    body: JSON = {"type": "ExternalName", "externalName": "localhost"}
    await admin.apply(SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": body})


async def forget_registrations(admin: Cluster) -> None:
    """As on a cluster without an adapter."""
    for name in names():
        await admin.delete(API_SERVICE, None, name)


async def until(holds: Callable[[JSON | None], bool], admin: Cluster, name: str) -> JSON:
    """The registration, once it is as wanted."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            item = await admin.get(API_SERVICE, None, name)
            if holds(item):
                return item or {}
            await asyncio.sleep(0.2)


def is_available(item: JSON | None) -> bool:
    """Whether the API server has reached the server of a registration."""
    conditions = (item or {}).get("status", {}).get("conditions", [])
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: JSON


def ask(url: str, context: ssl.SSLContext, headers: Mapping[str, str]) -> Answer:
    """GET, whatever comes."""
    request = urllib.request.Request(url, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return Answer(answer.status, json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.loads(error.read() or b"{}"))


@contextlib.asynccontextmanager
async def pages(texts: Mapping[str, str], port: int) -> AsyncIterator[None]:
    """Serves `/metrics` at each address."""
    runners = []
    try:
        for address, text in texts.items():
            app = web.Application()
            app.add_routes([web.get("/metrics", _page(text))])
            runner = web.AppRunner(app, access_log=None)
            runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, address, port).start()
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


def _page(text: str) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    return answer


async def add_pod(
    admin: Cluster, namespace: str, name: str, address: str, component: str = "scoreboard", phase: str = "Running"
) -> None:
    """A pod of a Scoreboard, named after its instance, as a node would report it."""
    labels = {
        "app.kubernetes.io/name": "podium",
        "app.kubernetes.io/instance": name.rpartition("-")[0],
        "app.kubernetes.io/component": component,
    }
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod_security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    body = {"containers": [{"name": "x", "image": "x", "securityContext": security}], "securityContext": pod_security}
    meta = {"name": name, "namespace": namespace, "labels": labels}
    await admin.create(POD, namespace, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body})
    status = {"phase": phase, "podIP": address, "podIPs": [{"ip": address}]}
    await admin.merge(POD, namespace, name, {"status": status}, "status")


@dataclass
class Metrics:
    """The server, as the autoscaler reaches it and as one reaches it directly."""

    admin: Cluster
    autoscaler: Cluster
    stranger: Cluster
    url: str
    authority: Authority

    async def read(self, path: str = ALL_PODS, query: dict[str, str] | None = None) -> JSON:
        """What the autoscaler gets through the API server."""
        return await self.autoscaler._call("GET", path, query)

    async def directly(self, path: str, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> Answer:
        """What the server says to whoever calls it past the API server."""
        return await asyncio.to_thread(ask, self.url + path, context, headers or {})


@contextlib.asynccontextmanager
async def registered(api_server: ApiServer, admin: Cluster, folder: Path) -> AsyncIterator[Metrics]:
    """A registered server, and pods of two Scoreboards in one namespace, of which some answer."""
    port, pod_port = free_ports(2)
    await forget_registrations(admin)
    await lead_to_this_machine(admin)
    await admin.apply(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GAMES}})
    await add_pod(admin, GAMES, "arcade-busy", "127.0.0.2")
    await add_pod(admin, GAMES, "arcade-fresh", "127.0.0.3")
    await add_pod(admin, GAMES, "arcade-other", "127.0.0.4")
    await add_pod(admin, GAMES, "arcade-silent", "127.0.0.5")
    await add_pod(admin, GAMES, "arcade-gone", "127.0.0.2", phase="Failed")
    await add_pod(admin, GAMES, "arcade-scores", "127.0.0.2", component="scores")
    await add_pod(admin, GAMES, "casino-busy", "127.0.0.2")
    autoscaler = api_server.connect(api_server.autoscaler_token)
    stranger = api_server.connect(api_server.stranger_token)
    served = {"127.0.0.2": BUSY, "127.0.0.3": FRESH, "127.0.0.4": OTHER}
    try:
        async with pages(served, pod_port):
            with running(api_server, settings(port, pod_port), folder):
                for name in names():
                    await until(is_available, admin, name)
                yield Metrics(admin, autoscaler, stranger, f"https://127.0.0.1:{port}", api_server.front_proxy)
    finally:
        for cluster in (autoscaler, stranger):
            await cluster.close()
        for pod in await admin.find(POD, GAMES):
            await admin.delete(POD, GAMES, pod["metadata"]["name"])
        await forget_registrations(admin)
