"""The Scoreboard resource on a real cluster: conditions, spec changes, and objects that come back."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.client import Client
from tests.support.instance import SETTLE_SECONDS, Instance, Object, is_ready, until

OWNED = (
    "deployments,statefulsets,services,configmaps,serviceaccounts,horizontalpodautoscalers,poddisruptionbudgets,"
    "networkpolicies,roles,rolebindings,ingresses"
)
"""Kinds whose objects the operator makes and can make again from the spec alone."""

STORES = ("redis", "nats", "postgres")

DNS_SECONDS = 15.0
"""How long a name that was away may stay unknown: the local cluster's DNS and the gateway keep it for 5 s and 1 s."""

SERVED = (
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/api/v1/scoreboard"),
    ("POST", "/api/v1/scores/update"),
    ("GET", "/api/v1/analytics/summary"),
)
"""An operation of each service."""


def _key(item: Object) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _owned(instance: Instance) -> dict[tuple[str, str], str]:
    """The operator's objects by kind and name, with their uids."""
    items = instance.objects(OWNED, "app.kubernetes.io/managed-by=podium-operator")
    return {_key(item): item["metadata"]["uid"] for item in items}


def _store_pods(instance: Instance) -> set[str]:
    return {pod["metadata"]["uid"] for store in STORES for pod in instance.pods(store)}


async def _patch(instance: Instance, spec: dict[str, Any]) -> None:
    """Change the spec and wait until the change is rolled out."""
    body = json.dumps({"spec": spec})
    await asyncio.to_thread(instance.kubectl, "patch", "scoreboard", instance.name, "--type=merge", "-p", body)
    await asyncio.to_thread(instance.wait_settled)


@pytest.fixture
async def unchanged_afterwards(instance: Instance) -> AsyncIterator[dict[str, Any]]:
    """The present spec, which is put back at the end."""
    spec: dict[str, Any] = instance.scoreboard()["spec"]
    yield spec
    await _patch(instance, {"actions": spec["actions"], "tiers": spec["tiers"]})


def test_the_resource_is_ready_for_its_generation(instance: Instance) -> None:
    """``Ready=True`` with the generation that is rolled out, the pinned version and the URL."""
    instance.wait_settled()
    scoreboard = instance.scoreboard()
    assert is_ready(scoreboard)
    status = scoreboard["status"]
    assert {"Ready", "Progressing", "Degraded"} <= {each["type"] for each in status["conditions"]}
    assert status["version"]
    assert status["lastGoodRevision"]


def test_kubectl_get_shows_what_matters(instance: Instance) -> None:
    """The short name works and the columns are those of the contract."""
    header, row = instance.kubectl("get", "sb", instance.name).splitlines()
    assert header.split() == ["NAME", "READY", "VERSION", "PLAYERS", "CONNECTIONS", "URL", "AGE"]
    assert row.split()[:2] == [instance.name, "True"]


def test_every_field_is_explained(instance: Instance) -> None:
    """``kubectl explain`` has a text for each field of the spec."""
    text = instance.kubectl("explain", "scoreboard.spec", "--recursive=false")
    assert "actions" in text
    assert "<no description>" not in text


def test_a_spec_that_cannot_work_is_refused_with_a_hint(instance: Instance) -> None:
    """Two actions of one type, points together with pointsFrom, and unknown boards never get in."""
    broken = {"spec": {"actions": [{"type": "win", "points": 1, "boards": ["no-such-board"]}]}}
    with pytest.raises(subprocess.CalledProcessError) as refused:
        instance.kubectl(
            *("patch", "scoreboard", instance.name, "--type=merge", "--dry-run=server", "-p", json.dumps(broken))
        )
    assert "board" in refused.value.stderr


@pytest.mark.timeout(600)
async def test_new_points_take_effect_without_touching_the_stores(
    client: Client, instance: Instance, unchanged_afterwards: dict[str, Any]
) -> None:
    """After the points of ``win`` change, updates earn the new points and no store's pod was replaced."""
    stores = _store_pods(instance)
    actions = [each | {"points": 11} if each["type"] == "win" else each for each in unchanged_afterwards["actions"]]
    await _patch(instance, {"actions": actions})
    assert (await client.update(await client.open_session())).json()["scoreIncrease"] == 11
    assert _store_pods(instance) == stores


@pytest.mark.timeout(600)
async def test_a_new_tier_takes_effect(
    client: Client, instance: Instance, unchanged_afterwards: dict[str, Any]
) -> None:
    """Tiers are read from the spec."""
    await _patch(instance, {"tiers": [{"name": "starter", "minScore": 0}, {"name": "winner", "minScore": 10}]})
    assert (await client.update(await client.open_session())).json()["tier"] == "winner"


@pytest.mark.timeout(900)
async def test_whatever_is_deleted_comes_back(client: Client, instance: Instance) -> None:
    """Each object that the operator made is made again after its deletion; pods of stores outlive their owner.

    Names that were away stay unknown for as long as DNS caches say: only then do all services answer again.
    """
    await asyncio.to_thread(_delete_all, instance)
    deadline = time.monotonic() + DNS_SECONDS
    while not all([await _answers(client, *operation) for operation in SERVED]):
        assert time.monotonic() < deadline, f"not all of {SERVED} are served after {DNS_SECONDS} s"
        await asyncio.sleep(0.2)


async def _answers(client: Client, method: str, path: str) -> bool:
    return (await client.http.request(method, path)).status_code < httpx.codes.INTERNAL_SERVER_ERROR


def _delete_all(instance: Instance) -> None:
    """Delete every object that the operator made and wait until it is settled again."""
    instance.wait_settled()
    before = _owned(instance)
    assert len(before) > 30
    for kind, name in sorted(before):
        cascade = "orphan" if kind == "StatefulSet" else "background"
        instance.kubectl("delete", kind, name, f"--cascade={cascade}", "--wait=false")
    until(lambda: _came_back(before, _owned(instance)), SETTLE_SECONDS, every=1)
    instance.wait_settled()


def _came_back(before: dict[tuple[str, str], str], now: dict[tuple[str, str], str]) -> bool:
    return set(before) <= set(now) and all(now[key] != uid for key, uid in before.items())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("field", "wrong"), [("targetPort", 9), ("port", 8081)])
def test_drift_is_repaired(instance: Instance, field: str, wrong: int) -> None:
    """A field that somebody else changed is set back, also where it is the key of a list's items."""
    target = f"{instance.name}-scores"

    def ports() -> object:
        return [(port["port"], port["targetPort"]) for port in instance.get("service", target)["spec"]["ports"]]

    expected = ports()
    patch = json.dumps([{"op": "replace", "path": f"/spec/ports/0/{field}", "value": wrong}])
    instance.kubectl("patch", "service", target, "--type=json", "-p", patch)
    try:
        until(lambda: ports() == expected, 90)
        instance.wait_settled()
    except TimeoutError:
        instance.kubectl("delete", "service", target)  # it comes back, so that the tests after this one can go on
        raise


def test_pods_run_under_the_restricted_standard(instance: Instance) -> None:
    """The namespace would accept no pod that is not restricted, and it warns of none that runs."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    answer = instance.kubectl("label", "--dry-run=server", "--overwrite", "namespace", instance.namespace, label)
    assert "Warning" not in answer
