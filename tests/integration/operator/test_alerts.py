"""Alerting rules where the Prometheus Operator's kinds are served, and where they are not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from podium_operator.cluster import POD_MONITOR, PROMETHEUS_RULE
from podium_operator.spec import JSON
from tests.integration.operator.definitions import served
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
    async with served(world, dict.fromkeys(KINDS, schema)):
        yield


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
