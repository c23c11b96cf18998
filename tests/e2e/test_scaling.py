"""Scaling by connections, on the whole way: watchers at the gateway, the metric, the autoscaler, a pod that drains."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.instance import Instance, Object, until
from tests.support.watcher import Watcher, watch

METRIC = "podium_scoreboard_connections"
PODS = 2
"""Scoreboard pods of the sample without load."""

TARGET = 4
WATCHERS = 12
"""Three pods' worth at ``TARGET``."""

SCALING_SECONDS = 120.0
"""The autoscaler looks every 15 s; a pod is ready some seconds later."""

MORE_WATCHERS = 24
"""So many more at most until the new pod has one; with the others below the sample's limit of one address."""


@contextlib.contextmanager
def _scaled(instance: Instance, **settings: Any) -> Iterator[None]:
    """The scoreboard's scaling, changed for a while; the third pod is taken away at the end."""
    before = instance.scoreboard()["spec"]["services"]["scoreboard"]
    _change(instance, **settings)
    try:
        yield
    finally:
        _change(instance, maxReplicas=PODS)
        until(lambda: len(instance.pods("scoreboard")) == PODS, SCALING_SECONDS)
        restored = {key: before.get(key) for key in ("maxReplicas", *settings)}
        _change(instance, **restored)
        instance.wait_settled()


def _change(instance: Instance, **settings: Any) -> None:
    patch = json.dumps({"spec": {"services": {"scoreboard": settings}}})
    instance.kubectl("patch", "scoreboard", instance.name, "--type=merge", f"--patch={patch}")


def _autoscaler(instance: Instance) -> Object:
    found: Object = instance.get("horizontalpodautoscaler", f"{instance.name}-scoreboard").get("status", {})
    return found


def _average(status: Object) -> str | None:
    """Connections of a pod as the autoscaler saw them last."""
    pods = [each["pods"] for each in status.get("currentMetrics") or [] if each["type"] == "Pods"]
    found: str | None = next((each["current"].get("averageValue") for each in pods), None)
    return found


def _readings(instance: Instance) -> dict[str, int]:
    """Connections of each pod as the cluster's API serves them."""
    path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{instance.namespace}/pods/*/{METRIC}"
    selector = f"app.kubernetes.io%2Finstance%3D{instance.name}"
    items = json.loads(instance.kubectl("get", "--raw", f"{path}?labelSelector={selector}"))["items"]
    return {item["describedObject"]["name"]: int(item["value"]) for item in items}


async def _wait(condition: Callable[[], bool]) -> None:
    """Wait beside the connections, whose pings are answered meanwhile."""
    await asyncio.to_thread(until, condition, SCALING_SECONDS)


def test_the_cluster_serves_the_metric(instance: Instance) -> None:
    """Each scoreboard pod has a value, without a Prometheus."""
    assert _readings(instance).keys() == {pod["metadata"]["name"] for pod in instance.pods("scoreboard")}


@pytest.mark.timeout(600)
async def test_watchers_bring_a_pod_and_a_removed_pod_sends_its_watchers_on(instance: Instance) -> None:
    """The autoscaler sees the connections and adds a pod; when that one goes, its watchers are told when to return."""
    with _scaled(instance, targetConnectionsPerPod=TARGET):
        async with contextlib.AsyncExitStack() as stack:
            watchers = [await stack.enter_async_context(watch(instance.ws_url)) for _ in range(WATCHERS)]
            for watcher in watchers:
                await watcher.message("snapshot")
            old = {pod["metadata"]["name"] for pod in instance.pods("scoreboard")}
            assert sum(_readings(instance).values()) >= WATCHERS

            await _wait(lambda: _autoscaler(instance).get("desiredReplicas", 0) > PODS)
            assert _average(_autoscaler(instance)) is not None
            await _wait(lambda: _readings(instance).keys() > old)
            (new,) = _readings(instance).keys() - old
            watchers += await _until_one_is_at(instance, new, stack)

            await asyncio.to_thread(_change, instance, maxReplicas=PODS)
            await _wait(lambda: any(watcher.connection.close_code for watcher in watchers))
            await _wait(lambda: len(instance.objects("pods", "app.kubernetes.io/component=scoreboard")) == PODS)
            closed = [watcher.connection for watcher in watchers if watcher.connection.close_code]
            assert {connection.close_code for connection in closed} == {1001}
            assert all(json.loads(connection.close_reason or "{}")["retryAfterMs"] >= 0 for connection in closed)
            assert len(closed) < len(watchers)


async def _until_one_is_at(instance: Instance, pod: str, stack: contextlib.AsyncExitStack) -> list[Watcher]:
    """More watchers, until the gateway has sent one to this pod."""
    more: list[Watcher] = []
    for _ in range(MORE_WATCHERS):
        watcher = await stack.enter_async_context(watch(instance.ws_url))
        await watcher.message("snapshot")
        more.append(watcher)
        if (await asyncio.to_thread(_readings, instance)).get(pod):
            return more
        await asyncio.sleep(0.5)
    pytest.fail(f"no connection reached the new pod {pod}")
