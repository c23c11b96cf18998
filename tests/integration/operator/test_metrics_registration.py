"""Who serves custom.metrics.k8s.io: this server where nobody does, the other adapter where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podium_operator.cluster import Cluster, Conflict, Refused
from podium_operator.connection_metrics.registration import API_SERVICE, CLUSTER_ROLE, names, register, wanted
from podium_operator.spec import JSON
from tests.integration.operator.api_server import ApiServer, running_controllers
from tests.integration.operator.conftest import Connections
from tests.integration.operator.metrics_world import forget_registrations, running, settings, until
from tests.support.processes import free_ports

OURS = settings()
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture
async def server(connections: Connections, api_server: ApiServer) -> AsyncIterator[Cluster]:
    """The API server as the metrics server's own ServiceAccount sees it; nobody is registered."""
    await forget_registrations(connections.admin)
    cluster = api_server.connect(api_server.metrics_token)
    yield cluster
    await cluster.close()
    await forget_registrations(connections.admin)


def _foreign(name: str) -> JSON:
    version, _, group = name.partition(".")
    service = {"namespace": "monitoring", "name": "prometheus-adapter"}
    return {
        "apiVersion": API_SERVICE.api_version,
        "kind": API_SERVICE.kind,
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": service,
        },
    }


async def _services(admin: Cluster) -> dict[str, str]:
    found = {name: await admin.get(API_SERVICE, None, name) for name in names()}
    return {name: item["spec"]["service"]["name"] for name, item in found.items() if item is not None}


async def test_both_versions_are_taken_where_nobody_serves_them(connections: Connections, server: Cluster) -> None:
    """With no more rights than the chart gives."""
    try:
        assert await register(server, OURS, CERTIFICATE) == []
    except Refused as error:
        pytest.fail(str(error))
    assert await _services(connections.admin) == dict.fromkeys(names(), OURS.service)


@pytest.mark.parametrize("name", names())
async def test_another_adapter_is_left_alone(connections: Connections, server: Cluster, name: str) -> None:
    """One foreign version is enough: a second server in the group would hide the first one's metrics."""
    await connections.admin.apply(API_SERVICE, _foreign(name))
    assert await register(server, OURS, CERTIFICATE) == [name]
    assert await _services(connections.admin) == {name: "prometheus-adapter"}


@pytest.mark.parametrize("name", names())
async def test_it_steps_back_for_an_adapter_that_comes_later(
    connections: Connections, server: Cluster, name: str
) -> None:
    """And is there again when that one is gone."""
    admin = connections.admin
    await register(server, OURS, CERTIFICATE)
    await admin.delete(API_SERVICE, None, name)
    await admin.apply(API_SERVICE, _foreign(name))
    assert await register(server, OURS, CERTIFICATE) == [name]
    assert await _services(admin) == {name: "prometheus-adapter"}
    await admin.delete(API_SERVICE, None, name)
    assert await register(server, OURS, CERTIFICATE) == []
    assert await _services(admin) == dict.fromkeys(names(), OURS.service)


async def test_the_process_is_well_while_another_adapter_serves(
    connections: Connections, server: Cluster, api_server: ApiServer, tmp_path: Path
) -> None:
    """It is ready, for there is nothing to repair, and its log says who serves and what that means."""
    await connections.admin.apply(API_SERVICE, _foreign(names()[0]))
    port, pod_port = free_ports(2)
    with running(api_server, settings(port, pod_port), tmp_path) as process:
        assert "another adapter serves custom.metrics.k8s.io" in process.log_end()
        assert names()[0] in process.log_end()
    assert await _services(connections.admin) == {names()[0]: "prometheus-adapter"}


async def test_the_registration_goes_with_its_owner(
    connections: Connections, server: Cluster, api_server: ApiServer, tmp_path: Path
) -> None:
    """Kubernetes' own garbage collector removes it when the chart's ClusterRole is uninstalled."""
    admin, role = connections.admin, "metrics-for-a-while"
    meta = {"name": role}
    await admin.apply(CLUSTER_ROLE, {"apiVersion": CLUSTER_ROLE.api_version, "kind": "ClusterRole", "metadata": meta})
    await register(admin, OURS.model_copy(update={"owner": role}), CERTIFICATE)
    with running_controllers(api_server, tmp_path, "garbage-collector-controller"):
        await admin.delete(CLUSTER_ROLE, None, role)
        for name in names():
            await until(lambda item: item is None, admin, name)


async def test_a_new_certificate_is_registered(connections: Connections, server: Cluster) -> None:
    """After a restart the process has another one."""
    await register(server, OURS, CERTIFICATE)
    before = await connections.admin.get(API_SERVICE, None, names()[0])
    await register(server, OURS, CERTIFICATE.replace("MIIB", "MIIC"))
    after = await connections.admin.get(API_SERVICE, None, names()[0])
    assert before is not None
    assert after is not None
    assert before["spec"]["caBundle"] != after["spec"]["caBundle"]


async def test_an_adapter_that_registers_at_the_same_moment_is_not_overwritten(
    connections: Connections, server: Cluster
) -> None:
    """Between the look and the write: the API server refuses the write."""
    owner = {"metadata": {"name": OURS.owner, "uid": "0"}}
    await connections.admin.apply(API_SERVICE, _foreign("v1beta2.custom.metrics.k8s.io"), "helm")
    with pytest.raises(Conflict):
        await server.apply(API_SERVICE, wanted("v1beta2", CERTIFICATE, owner, OURS), "podium", force=False)


async def test_no_other_api_group_can_be_registered(server: Cluster) -> None:
    """The rights are for two names."""
    other = _foreign("v1beta1.metrics.k8s.io")
    with pytest.raises(Refused) as refused:
        await server.apply(API_SERVICE, other, "podium")
    assert refused.value.status == 403
