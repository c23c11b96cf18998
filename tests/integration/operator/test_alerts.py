"""Alerting rules where the Prometheus Operator's kinds are served, and where they are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from podium_operator.cluster import POD_MONITOR, PROMETHEUS_RULE, Refused
from podium_operator.spec import JSON
from tests.integration.operator.conftest import DEFINITION
from tests.integration.operator.world import NAME, USER, World

WANTED = {"observability": {"prometheusRules": True}}
KINDS = (PROMETHEUS_RULE, POD_MONITOR)


async def test_without_the_kinds_the_rest_works(world: World) -> None:
    """Degraded says what to install; the Scoreboard serves."""
    await world.write(WANTED)
    await world.settle()
    found = await world.conditions()
    assert found["Ready"]["status"] == "True"
    assert found["Degraded"]["reason"] == "ConfigurationProblem"
    for kind in KINDS:
        assert f"{kind.kind} is not served by this cluster" in found["Degraded"]["message"]


@pytest.fixture
async def prometheus_operator(world: World) -> AsyncIterator[None]:
    """Both kinds, with any content, served while the test runs."""
    schema: JSON = {"type": "object", "properties": {"spec": {"type": "object"}}}
    schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = True
    names = []
    for kind in KINDS:
        group, version = kind.api_version.split("/")
        names.append(f"{kind.plural}.{group}")
        definition: JSON = {
            "apiVersion": DEFINITION.api_version,
            "kind": DEFINITION.kind,
            "metadata": {"name": names[-1]},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower()},
                "versions": [
                    {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
                ],
            },
        }
        await world.admin.apply(DEFINITION, definition)
        probe: JSON = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": "probe", "namespace": world.namespace},
        }
        async with asyncio.timeout(30):
            while True:
                try:
                    await world.admin.apply(kind, probe, manager=USER)
                except Refused:
                    await asyncio.sleep(0.1)
                else:
                    break
    yield
    for name in names:
        await world.admin.delete(DEFINITION, None, name)
    async with asyncio.timeout(30):
        while {item["metadata"]["name"] for item in await world.admin.find(DEFINITION, None)} & set(names):
            await asyncio.sleep(0.1)


async def test_rules_come_are_repaired_and_go(world: World, prometheus_operator: None) -> None:
    """As every other object; and no pod is touched by any of it."""
    await world.write({})
    await world.settle()
    before = (await world.deployment("scores"))["spec"]["template"]
    await world.write(WANTED)
    await world.settle()
    assert (await world.conditions())["Degraded"]["status"] == "False"
    assert (await world.deployment("scores"))["spec"]["template"] == before
    rule = await world.admin.get(PROMETHEUS_RULE, world.namespace, f"{NAME}-alerts")
    assert rule is not None
    rules = rule["spec"]["groups"][0]["rules"]
    assert "PodiumDeadLetters" in {one["alert"] for one in rules}
    assert all(f'namespace="{world.namespace}",scoreboard="{NAME}"' in one["expr"] for one in rules)

    await world.admin.merge(PROMETHEUS_RULE, world.namespace, f"{NAME}-alerts", {"spec": {"groups": []}}, manager=USER)
    await world.step()
    repaired = await world.admin.get(PROMETHEUS_RULE, world.namespace, f"{NAME}-alerts")
    assert repaired is not None
    assert repaired["spec"] == rule["spec"]

    await world.write({})
    await world.settle()
    for kind in KINDS:
        assert await world.admin.get(kind, world.namespace, f"{NAME}-alerts") is None
