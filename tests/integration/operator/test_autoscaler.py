"""Kubernetes' own autoscaler, with the HorizontalPodAutoscaler that the operator renders, asks the metrics server.

There is no metrics.k8s.io here: the CPU's use cannot be had, and the connections alone must be enough to grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from podium_operator.builders import services
from podium_operator.cluster import DEPLOYMENT, Kind
from podium_operator.spec import JSON
from tests.integration.operator.api_server import ApiServer, running_controllers
from tests.integration.operator.metrics_world import GAMES, WAIT_SECONDS, Metrics
from tests.unit.operator.golden import inputs

AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NAME = "arcade-scoreboard"
PODS = 4
"""Running pods of the Scoreboard `arcade`: one has 432 connections, one none, two do not say."""


@pytest.fixture
async def autoscaler(metrics: Metrics, api_server: ApiServer, tmp_path: Path) -> AsyncIterator[None]:
    """Kubernetes' own, as the only controller; what it works on is gone after the test."""
    with running_controllers(api_server, tmp_path, "horizontal-pod-autoscaler-controller"):
        yield
    for kind in (AUTOSCALER, DEPLOYMENT):
        await metrics.admin.delete(kind, GAMES, NAME)


async def _apply(metrics: Metrics, target: int) -> None:
    """The scoreboard's Deployment with its pods, and its autoscaler."""
    spec = {"services": {"scoreboard": {"targetConnectionsPerPod": target, "maxReplicas": 20}}}
    for item in services.build(inputs(spec, namespace=GAMES)):
        if item["metadata"]["name"] != NAME:
            continue
        if item["kind"] == DEPLOYMENT.kind:
            await metrics.admin.apply(DEPLOYMENT, {**item, "spec": {**item["spec"], "replicas": PODS}})
            await metrics.admin.merge(DEPLOYMENT, GAMES, NAME, {"status": {"replicas": PODS}}, "status")
        elif item["kind"] == AUTOSCALER.kind:
            await metrics.admin.apply(AUTOSCALER, item)


async def _until(metrics: Metrics, holds: Callable[[JSON], bool]) -> JSON:
    """The autoscaler's status, once it is as wanted."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            item = await metrics.admin.get(AUTOSCALER, GAMES, NAME)
            status: JSON = (item or {}).get("status", {})
            if holds(status):
                return status
            await asyncio.sleep(0.2)


def _conditions(status: JSON) -> dict[str, str]:
    return {each["type"]: each.get("reason", "") for each in status.get("conditions", [])}


@pytest.mark.usefixtures("autoscaler")
async def test_connections_above_the_target_add_pods(metrics: Metrics) -> None:
    """432 of them at 50 for a pod ask for nine; pods that do not say count as empty when it grows.

    The first step is by four pods, the most that may come at once.
    """
    await _apply(metrics, target=50)
    status = await _until(metrics, lambda status: status.get("desiredReplicas", 0) > PODS)
    (connections,) = [each["pods"] for each in status["currentMetrics"] if each["type"] == "Pods"]
    assert connections["metric"]["name"] == "podium_scoreboard_connections"
    assert connections["current"]["averageValue"] == "216"
    assert status["desiredReplicas"] == PODS + 4
    deployment = await metrics.admin.get(DEPLOYMENT, GAMES, NAME)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == PODS + 4


@pytest.mark.usefixtures("autoscaler")
async def test_few_connections_remove_no_pod_while_the_other_metric_is_missing(metrics: Metrics) -> None:
    """Kubernetes removes pods only when it knows every metric."""
    await _apply(metrics, target=20000)
    status = await _until(metrics, lambda status: _conditions(status).get("ScalingActive", "").startswith("FailedGet"))
    assert status["desiredReplicas"] == 0, "not computed"
    deployment = await metrics.admin.get(DEPLOYMENT, GAMES, NAME)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == PODS
