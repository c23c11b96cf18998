"""The operator against a real API server: each test has a namespace of its own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import yaml

from podium_dev import toolchain
from podium_operator import crd
from podium_operator.cluster import SCOREBOARD, Cluster, Kind, Refused
from podium_operator.settings import OperatorSettings
from podium_operator.spec import JSON
from tests.integration.operator.api_server import ApiServer, running_api_server
from tests.integration.operator.definitions import DEFINITION
from tests.integration.operator.metrics_world import NAMESPACE, Metrics, registered
from tests.integration.operator.world import World

CHART = Path(__file__).parents[3] / "charts" / "podium"
RBAC = {
    kind: Kind("rbac.authorization.k8s.io/v1", kind, f"{kind.lower()}s")
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
}
_numbers = count()


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """The API server of this test session."""
    with running_api_server() as running:
        yield running


@dataclass
class Connections:
    """The API server as its two users see it."""

    admin: Cluster
    operator: Cluster


@pytest.fixture(scope="session")
async def connections(api_server: ApiServer) -> AsyncIterator[Connections]:
    """The CRD and the chart's rights are in place; the operator is its ServiceAccount, no more."""
    admin, operator = api_server.connect(api_server.admin_token), api_server.connect(api_server.operator_token)
    await admin.apply(DEFINITION, crd.definition())
    for name in ("podium-system", "kube-system"):  # the second one's own controller may be later than this
        await admin.apply(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for item in _chart():
        if item["kind"] in RBAC:
            await admin.apply(RBAC[item["kind"]], item)
    await _served(operator)
    yield Connections(admin, operator)
    await admin.close()
    await operator.close()


def _chart() -> list[JSON]:
    """What the chart renders with its own values."""
    command = [str(toolchain.ensure("helm")), "template", "podium", str(CHART), "--namespace", "podium-system"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [item for item in yaml.safe_load_all(text) if item]


async def _served(cluster: Cluster) -> None:
    """Wait until Scoreboards can be listed with the operator's own rights."""
    async with asyncio.timeout(30):
        while True:
            try:
                await cluster.find(SCOREBOARD, None)
            except Refused:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.fixture
async def world(connections: Connections) -> World:
    """A fresh namespace, and the operator for it."""
    namespace = f"games-{next(_numbers)}"
    meta = {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    await connections.admin.apply(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    settings = OperatorSettings(
        version="1.0.0",
        image_podium="registry.test/podium",
        image_redis="registry.test/redis:7",
        image_nats="registry.test/nats:2",
        image_postgres="registry.test/postgres:15",
        image_envoy="registry.test/envoy:1",
        image_ratelimit="registry.test/ratelimit:1",
    )
    return World(connections.admin, connections.operator, settings, namespace)


@pytest.fixture(scope="module")
async def metrics(
    connections: Connections, api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Metrics]:
    """The metrics server, registered, and pods to ask."""
    async with registered(api_server, connections.admin, tmp_path_factory.mktemp("metrics")) as running:
        yield running
