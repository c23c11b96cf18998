"""External stores and the HTTPRoute against a real API server; the stores' addresses are listening sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from podium_operator.cluster import HTTP_ROUTE, SECRET, STATEFUL_SET
from podium_operator.spec import JSON
from tests.integration.operator.definitions import served
from tests.integration.operator.world import NAME, USER, World
from tests.support.processes import free_ports

STORES = ("redis", "nats", "postgres")
SPEC: JSON = {store: {"external": {"secretRef": {"name": f"shared-{store}"}}} for store in STORES}
ROUTED: JSON = {"gateway": {"exposure": "HTTPRoute", "className": "edge/public", "host": "scores.example.com"}}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A TCP port of 127.0.0.1 that accepts connections."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _write_secrets(world: World, port: int) -> None:
    await world.write_secret("shared-redis", nodes=f"127.0.0.1:{port}", password="p-redis")
    await world.write_secret("shared-nats", url=f"nats://127.0.0.1:{port}", user="app", password="p-nats")
    await world.write_secret("shared-postgres", host="127.0.0.1", port=str(port), user="app", password="p-postgres")


async def test_external_stores_are_used_instead_of_own_ones(world: World, port: int) -> None:
    """Ready without a StatefulSet or a generated password; the conditions say External."""
    await _write_secrets(world, port)
    await world.write(SPEC)
    await world.settle()
    found = await world.conditions()
    assert found["Ready"]["status"] == "True"
    assert {found[kind]["reason"] for kind in ("Redis", "NATS", "Postgres")} == {"External"}
    assert not set(STORES) & set((await world.read())["status"]["components"])
    assert not await world.admin.find(STATEFUL_SET, world.namespace)
    names = {item["metadata"]["name"] for item in await world.admin.find(SECRET, world.namespace)}
    assert not {f"{NAME}-{store}" for store in STORES} & names
    await world.step()
    before = await world.versions()
    assert await world.step() is None
    assert await world.versions() == before


async def test_a_missing_secret_is_said_and_waited_for(world: World, port: int) -> None:
    """Nothing of the application is made before; when the Secret comes, it goes on."""
    await world.write(SPEC)
    await world.step()
    found = await world.conditions()
    assert (found["Redis"]["status"], found["Ready"]["status"]) == ("False", "False")
    assert "Secret shared-redis does not exist" in found["Redis"]["message"]
    assert "Secret shared-postgres does not exist" in found["Ready"]["message"]
    assert found["Degraded"]["reason"] == "ConfigurationProblem"
    assert not {"Deployment", "Job"} & {key[1] for key in await world.objects()}
    await world.write_secret("shared-redis", password="x")
    await world.step()
    assert "Secret shared-redis lacks nodes" in (await world.conditions())["Redis"]["message"]

    await _write_secrets(world, port)
    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"


async def test_a_secret_that_goes_away_leaves_what_runs(world: World, port: int) -> None:
    """The conditions say it, no object changes, and it comes back as it was."""
    await _write_secrets(world, port)
    await world.write(SPEC)
    await world.settle()
    before = await world.objects()
    await world.admin.delete(SECRET, world.namespace, "shared-nats")
    await world.step()
    await world.step()
    assert "Secret shared-nats does not exist" in (await world.conditions())["NATS"]["message"]
    assert await world.objects() == before
    await _write_secrets(world, port)
    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"
    assert await world.objects() == before


async def test_a_store_that_cannot_be_reached_is_waited_for(world: World, port: int) -> None:
    """Its condition names the Secret, not the address."""
    await _write_secrets(world, port)
    (closed,) = free_ports(1)
    await world.write_secret("shared-redis", nodes=f"127.0.0.1:{closed}")
    await world.write(SPEC)
    await world.step()
    found = await world.conditions()
    assert found["Redis"]["message"] == "1 of 1 addresses of Secret shared-redis cannot be reached"
    assert "waiting for the stores (redis:" in found["Ready"]["message"]


async def test_a_changed_secret_reaches_the_pods(world: World, port: int) -> None:
    """Another password is another pod template."""
    await _write_secrets(world, port)
    await world.write(SPEC)
    await world.settle()
    before = (await world.deployment("scores"))["spec"]["template"]
    await world.write_secret("shared-redis", nodes=f"127.0.0.1:{port}", password="another")
    await world.settle()
    assert (await world.deployment("scores"))["spec"]["template"] != before
    assert (await world.conditions())["Ready"]["status"] == "True"


async def test_without_the_gateway_api_the_rest_works(world: World) -> None:
    """Degraded says what to install; the Scoreboard serves."""
    assert await world.operator.find(HTTP_ROUTE, world.namespace) == []
    await world.write(ROUTED)
    await world.settle()
    found = await world.conditions()
    assert found["Ready"]["status"] == "True"
    assert found["Degraded"]["reason"] == "ConfigurationProblem"
    assert "HTTPRoute is not served by this cluster" in found["Degraded"]["message"]


@pytest.fixture
async def gateway_api(world: World) -> AsyncIterator[None]:
    """HTTPRoutes as far as the operator uses them, served while the test runs."""
    text = {"type": "string"}
    reference = {"type": "object", "properties": dict.fromkeys(("group", "kind", "name", "namespace"), text)}
    schema: JSON = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "parentRefs": {"type": "array", "items": reference},
                    "hostnames": {"type": "array", "items": text},
                    "rules": {
                        "type": "array",
                        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                },
            }
        },
    }
    async with served(world, {HTTP_ROUTE: schema}):
        yield


async def test_the_route_leads_to_the_gateway(world: World, gateway_api: None) -> None:
    """Attached to the Gateway, repaired, and gone when the exposure is another."""
    await world.write(ROUTED)
    await world.settle()
    assert (await world.conditions())["Degraded"]["status"] == "False"
    assert (await world.read())["status"]["url"] == "https://scores.example.com"
    route = await world.admin.get(HTTP_ROUTE, world.namespace, f"{NAME}-gateway")
    assert route is not None
    assert route["spec"]["parentRefs"][0]["namespace"] == "edge"
    assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == f"{NAME}-gateway"

    patch = {"spec": {"hostnames": ["other.example.com"]}}
    await world.admin.merge(HTTP_ROUTE, world.namespace, f"{NAME}-gateway", patch, manager=USER)
    await world.step()
    route = await world.admin.get(HTTP_ROUTE, world.namespace, f"{NAME}-gateway")
    assert route is not None
    assert route["spec"]["hostnames"] == ["scores.example.com"]

    await world.write({"gateway": {"exposure": "None"}})
    await world.settle()
    assert await world.admin.get(HTTP_ROUTE, world.namespace, f"{NAME}-gateway") is None
