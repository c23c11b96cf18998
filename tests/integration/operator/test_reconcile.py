"""Reconciling against a real API server, with exactly the rights that the chart gives."""

from __future__ import annotations

import pytest

from podium_operator import secret_data
from podium_operator.builders.base import MANAGER
from podium_operator.cluster import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    REVISION,
    SCOREBOARD,
    SERVICE,
    STATEFUL_SET,
    Kind,
    Refused,
    kind_of,
)
from podium_operator.spec import JSON
from tests.integration.operator.world import CLIENT, NAME, USER, World

LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no progress"}
"""What the Deployment controller says about a roll-out without progress."""


async def test_it_comes_up_in_order(world: World) -> None:
    """Stores first; services only after the migration; ready at the end, with events and status."""
    world.stores_work = False
    await world.write()
    await world.step()
    kinds = {key[1] for key in await world.objects()}
    assert "StatefulSet" in kinds
    assert not {"Job", "Deployment"} & kinds
    assert "waiting for the stores" in (await world.conditions())["Ready"]["message"]

    world.stores_work = True
    await world.step()
    kinds = {key[1] for key in await world.objects()}
    assert "Job" in kinds
    assert "Deployment" not in kinds

    await world.settle()
    scoreboard = await world.read()
    found = await world.conditions()
    assert {t: found[t]["status"] for t in ("Ready", "Progressing", "Degraded")} == {
        "Ready": "True", "Progressing": "False", "Degraded": "False",
    }  # fmt: skip
    assert {c["observedGeneration"] for c in found.values()} == {scoreboard["metadata"]["generation"]}
    status = scoreboard["status"]
    assert status["version"] == "1.0.0"
    assert status["lastGoodRevision"] == status["currentRevision"]
    assert status["url"] == f"http://{NAME}-gateway.{world.namespace}.svc"
    assert status["components"]["scores"] == {"ready": 2, "desired": 2}
    assert {"RolloutStarted", "RolledOut", "Serving"} <= await world.reasons()


async def test_nothing_is_written_when_nothing_changed(world: World) -> None:
    """The second look at a settled Scoreboard leaves every resourceVersion as it is."""
    await world.write()
    await world.settle()
    await world.step()
    before = await world.versions()
    assert await world.step() is None
    assert await world.versions() == before


async def test_a_newer_operator_restarts_nothing(world: World) -> None:
    """Other images and another default version, the same spec: not one object changes."""
    await world.write()
    await world.settle()
    await world.step()
    before = await world.versions()
    world.settings = world.settings.model_copy(
        update={"version": "2.0.0", "image_redis": "registry.test/redis:8", "image_envoy": "registry.test/envoy:2"}
    )
    await world.settle()
    assert await world.versions() == before


async def test_every_object_comes_back(world: World) -> None:
    """Delete each object that was made, one after the other: the next look makes it again."""
    await world.write()
    await world.settle()
    for key, item in (await world.objects()).items():
        await world.admin.delete(kind_of(item), world.namespace, key[2])
        await world.settle()
        assert key in await world.objects()
    assert "Restored" in await world.reasons()


@pytest.mark.parametrize("component", ["postgres", "redis", "nats"])
async def test_a_deletion_during_a_look_fails_nothing(
    world: World, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A StatefulSet that was edited, and is deleted between the two steps of its repair, is made anew by that look."""
    await world.write()
    await world.settle()
    name = f"{NAME}-{component}"
    container = {"name": component, "image": "other"}
    edit = {"spec": {"template": {"spec": {"containers": [container, {"name": "more", "image": "other"}]}}}}
    await world.admin.merge(STATEFUL_SET, world.namespace, name, edit, manager=USER)
    apply = world.operator.apply
    deleted: list[str] = []

    async def apply_then_delete(kind: Kind, item: JSON, manager: str = MANAGER) -> JSON:
        made = await apply(kind, item, manager)
        if kind == STATEFUL_SET and not deleted:
            deleted.append(made["metadata"]["uid"])
            await world.admin.delete(STATEFUL_SET, world.namespace, name)
        return made

    monkeypatch.setattr(world.operator, "apply", apply_then_delete)
    await world.step()
    live = await world.admin.get(STATEFUL_SET, world.namespace, name)
    assert live is not None
    assert deleted
    assert live["metadata"]["uid"] not in deleted
    assert [each["image"] for each in live["spec"]["template"]["spec"]["containers"]].count("other") == 0
    assert (await world.conditions())["Degraded"]["status"] == "False"


async def test_drift_is_repaired(world: World) -> None:
    """A hand that changes an image is overruled."""
    await world.write()
    await world.settle()
    wanted = (await world.deployment("scores"))["spec"]["template"]["spec"]["containers"][0]["image"]
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "scores", "image": "other"}]}}}}
    await world.admin.merge(DEPLOYMENT, world.namespace, f"{NAME}-scores", patch, manager=USER)
    await world.step()
    assert (await world.deployment("scores"))["spec"]["template"]["spec"]["containers"][0]["image"] == wanted


async def test_an_edited_port_is_repaired(world: World) -> None:
    """Neither another port nor an additional one stays, although the API server tells ports apart by number."""
    await world.write()
    await world.settle()
    name = f"{NAME}-scores"
    for ports in (
        [{"name": "http", "port": 9999, "targetPort": "http"}],
        [{"name": "http", "port": 8080, "targetPort": "http"}, {"name": "other", "port": 1}],
    ):
        await world.admin.merge(SERVICE, world.namespace, name, {"spec": {"ports": ports}}, manager=USER)
        await world.step()
        live = await world.admin.get(SERVICE, world.namespace, name)
        assert live is not None
        assert [port["port"] for port in live["spec"]["ports"]] == [8080]


async def test_the_autoscaler_is_left_alone(world: World) -> None:
    """More pods than the least number stay."""
    await world.write()
    await world.settle()
    await world.admin.merge(DEPLOYMENT, world.namespace, f"{NAME}-scores", {"spec": {"replicas": 5}}, manager="hpa")
    await world.step()
    assert (await world.deployment("scores"))["spec"]["replicas"] == 5


@pytest.mark.parametrize(
    "change",
    [
        {"actions": [{"type": "win", "points": 1}]},
        {"tiers": [{"name": "gold", "minScore": 1}]},
        {"security": {"updatesPerUserPerMinute": 5, "readsPerIPPerMinute": 5}},
        {"services": {"scores": {"minReplicas": 3}}},
        {"version": "1.0.1"},
    ],
    ids=["actions", "tiers", "limits", "replicas", "version"],
)
async def test_a_change_of_the_spec_leaves_the_stores_alone(world: World, change: dict[str, object]) -> None:
    """No StatefulSet gets a new generation, and the change is rolled out."""
    await world.write()
    await world.settle()
    before = {k: i["metadata"]["generation"] for k, i in (await world.objects()).items() if k[1] == "StatefulSet"}
    first = (await world.read())["status"]["currentRevision"]
    await world.write(change)
    await world.step()
    assert (await world.conditions())["Ready"]["status"] == "False"
    await world.settle()
    after = {k: i["metadata"]["generation"] for k, i in (await world.objects()).items() if k[1] == "StatefulSet"}
    assert after == before
    assert (await world.conditions())["Ready"]["status"] == "True"
    assert (await world.read())["status"]["currentRevision"] != first


async def test_what_is_rendered_no_longer_goes(world: World) -> None:
    """Without exposure there is no Ingress."""
    await world.write({"gateway": {"exposure": "Ingress", "host": "a.example.com"}})
    await world.settle()
    assert any(key[1] == "Ingress" for key in await world.objects())
    assert (await world.read())["status"]["url"] == "http://a.example.com"
    await world.write({})
    await world.settle()
    assert not any(key[1] == "Ingress" for key in await world.objects())


async def test_a_failed_roll_out_goes_back(world: World) -> None:
    """The last good revision is applied again, the status says so, and the next change tries anew."""
    await world.write()
    await world.settle()
    good = (await world.read())["status"]["lastGoodRevision"]
    world.frozen = {"scores"}
    await world.write({"version": "broken"})
    for _ in range(3):
        await world.step()
        await world.work()
    assert "broken" in (await world.deployment("scores"))["spec"]["template"]["spec"]["containers"][0]["image"]
    await world.deployment_status(await world.deployment("scores"), conditions=[LATE], replicas=3, updatedReplicas=1)
    await world.step()
    world.frozen = set()
    await world.settle(4)
    status = (await world.read())["status"]
    found = await world.conditions()
    assert (status["currentRevision"], status["version"]) == (good, "1.0.0")
    assert (await world.deployment("scores"))["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":1.0.0")
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("False", "RolledBack")
    assert found["Degraded"]["status"] == "True"
    assert "scores" in found["Degraded"]["message"]
    assert "RolledBack" in await world.reasons()

    await world.write({"version": "1.0.2"})
    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"
    assert (await world.read())["status"]["version"] == "1.0.2"


async def test_a_revision_that_was_good_once_can_fail_too(world: World) -> None:
    """Its roll-out is judged anew; the other good one is applied and stays applied."""
    await world.write()
    await world.settle()
    await world.write({"version": "1.0.1"})
    await world.settle()
    second = (await world.read())["status"]["currentRevision"]
    world.frozen = {"scores"}
    await world.write({"version": "1.0.0"})
    for _ in range(3):
        await world.step()
        await world.work()
    await world.deployment_status(await world.deployment("scores"), conditions=[LATE], replicas=3, updatedReplicas=1)
    await world.step()
    world.frozen = set()
    await world.settle(4)
    status = (await world.read())["status"]
    assert (status["currentRevision"], status["lastGoodRevision"]) == (second, second)
    assert (await world.conditions())["Ready"]["reason"] == "RolledBack"
    before = await world.versions()
    await world.step()
    assert await world.versions() == before


async def test_going_back_to_an_earlier_spec_uses_its_revision(world: World) -> None:
    """The same rendering has the same name."""
    await world.write()
    await world.settle()
    first = (await world.read())["status"]["currentRevision"]
    await world.write({"tiers": [{"name": "gold", "minScore": 1}]})
    await world.settle()
    await world.write()
    await world.settle()
    assert (await world.read())["status"]["currentRevision"] == first
    assert len(await world.admin.find(REVISION, world.namespace)) == 2


async def test_paused_holds_changes_back_and_keeps_what_runs(world: World) -> None:
    """A change waits, a deleted object still comes back."""
    await world.write()
    await world.settle()
    revision = (await world.read())["status"]["currentRevision"]
    await world.write({"paused": True, "tiers": [{"name": "gold", "minScore": 1}]})
    await world.admin.delete(CONFIG_MAP, world.namespace, f"{NAME}-rules")
    await world.settle(2)
    rules = await world.admin.get(CONFIG_MAP, world.namespace, f"{NAME}-rules")
    assert rules is not None
    assert rules["data"]["tiers.json"] == "[]"
    assert (await world.read())["status"]["currentRevision"] == revision
    assert (await world.conditions())["Ready"]["reason"] == "Paused"


async def test_pausing_alone_stays_ready(world: World) -> None:
    """Nothing is held back, so nothing is missing."""
    await world.write()
    await world.settle()
    await world.write({"paused": True})
    await world.settle(2)
    assert (await world.conditions())["Ready"]["status"] == "True"


async def test_a_missing_token_of_the_cdn_is_said_and_nothing_else_breaks(world: World) -> None:
    """The services are rolled out; the token counts as soon as it is there, without another roll-out."""
    await world.write({"cdn": {"purge": {"url": "https://edge.example/purge", "secretRef": {"name": "edge"}}}})
    await world.settle()
    found = await world.conditions()
    assert found["Ready"]["status"] == "True"
    assert found["Degraded"]["reason"] == "ConfigurationProblem"
    assert "cdn.purge: Secret edge does not exist; make it with the key token" in found["Degraded"]["message"]
    before = (await world.deployment("projector"))["spec"]
    await world.write_secret("edge", key="abc")
    await world.step()
    assert "Secret edge has no key token" in (await world.conditions())["Degraded"]["message"]
    await world.write_secret("edge", token="abc")
    await world.step()
    assert (await world.conditions())["Degraded"]["status"] == "False"
    assert (await world.deployment("projector"))["spec"] == before


async def test_a_missing_client_secret_is_said_and_nothing_else_breaks(world: World) -> None:
    """The condition names it; once it is there, auth gets the hash and rolls."""
    await world.write({"security": {"clients": [CLIENT]}})
    await world.settle(6)
    found = await world.conditions()
    assert found["Ready"]["status"] == "True"
    assert "client game: Secret game-secret does not exist" in found["Degraded"]["message"]

    await world.write_secret(clientSecret="open sesame", clientId="game")
    await world.settle()
    assert (await world.conditions())["Degraded"]["status"] == "False"
    stored = secret_data.decode((await world.secret("clients"))["data"])["clients.json"]
    assert '"scopes": ["scores:write"]' in stored
    assert "open sesame" not in stored


async def test_what_outlives_the_scoreboard_follows_its_policy(world: World) -> None:
    """Volumes and the Secret they need have no owner under Retain, and one under Delete; no finalizer anywhere."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"data-{NAME}-postgres-0",
            "namespace": world.namespace,
            "labels": {
                "app.kubernetes.io/name": "podium",
                "app.kubernetes.io/instance": NAME,
                "app.kubernetes.io/component": "postgres",
            },
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await world.admin.apply(CLAIM, claim, manager=USER)
    await world.write()
    await world.settle()

    async def owners() -> dict[str, bool]:
        held = await world.admin.get(CLAIM, world.namespace, claim["metadata"]["name"])  # type: ignore[index]
        assert held is not None
        items = {"volume": held}
        items |= {suffix: await world.secret(suffix) for suffix in ("postgres", "redis", "jwt", "credentials")}
        return {name: bool(item["metadata"].get("ownerReferences")) for name, item in items.items()}

    everything = dict.fromkeys(("volume", "postgres", "redis", "jwt", "credentials"), True)
    assert await owners() == {**everything, "volume": False, "postgres": False}
    assert all(item["metadata"].get("ownerReferences") for item in (await world.objects()).values())
    await world.write({"deletionPolicy": "Delete"})
    await world.settle()
    assert await owners() == everything
    await world.write()
    await world.settle()
    assert await owners() == {**everything, "volume": False, "postgres": False}
    assert "finalizers" not in (await world.read())["metadata"]


BROKEN_SCHEMA = {"actions": [{"type": "win", "points": 1, "schema": {"type": 5}}]}
NEVER = {"boards": [{"name": "default", "reset": "0 0 30 2 *"}]}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (BROKEN_SCHEMA, "actions[win].schema.type is no usable JSON Schema"),
        (NEVER, "boards[default].reset '0 0 30 2 *' never comes"),
    ],
)
async def test_what_only_the_operator_sees_is_said_and_nothing_is_made(world: World, spec: JSON, sentence: str) -> None:
    """The sentence names the field; once it is mended, the Scoreboard comes up."""
    await world.write(spec)
    assert await world.step() is None
    assert not await world.objects()
    found = await world.conditions()
    assert {t: (found[t]["status"], found[t]["reason"]) for t in ("Ready", "Progressing", "Degraded")} == {
        "Ready": ("False", "InvalidSpec"), "Progressing": ("False", "InvalidSpec"), "Degraded": ("True", "InvalidSpec"),
    }  # fmt: skip
    assert sentence in found["Ready"]["message"]

    await world.write({"actions": [{"type": "win", "points": 1, "schema": {"type": "object"}}]})
    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"


async def test_an_unusable_schema_is_not_rolled_out(world: World) -> None:
    """What runs goes on as it is, and is kept in shape; Ready is not shown for the broken generation."""
    await world.write()
    await world.settle()
    before = {key: item["spec"] for key, item in (await world.objects()).items() if "spec" in item}
    await world.write({**BROKEN_SCHEMA, "version": "1.0.1"})
    await world.admin.delete(DEPLOYMENT, world.namespace, f"{NAME}-auth")
    await world.settle()
    found = await world.conditions()
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("False", "InvalidSpec")
    assert found["Degraded"]["status"] == "True"
    assert found["Ready"]["observedGeneration"] == (await world.read())["metadata"]["generation"]
    after = {key: item["spec"] for key, item in (await world.objects()).items() if "spec" in item}
    assert after.keys() == before.keys()
    template = (await world.deployment("scores"))["spec"]["template"]
    assert template == before[(DEPLOYMENT.api_version, DEPLOYMENT.kind, f"{NAME}-scores")]["template"]
    await world.write()
    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"


async def test_a_deleted_scoreboard_is_left_alone(world: World) -> None:
    """Nothing is made for one that is gone."""
    await world.write()
    await world.step()
    await world.admin.delete(SCOREBOARD, world.namespace, NAME)
    before = await world.versions()
    assert await world.step() is None
    assert await world.versions() == before


async def test_a_refused_step_is_said(world: World) -> None:
    """What the API server does not accept is in the status, word for word, and tried again."""
    await world.write()
    await world.settle()
    broken = {
        "version": "1.0.1",
        "services": {"scores": {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}},
    }
    await world.write(broken)
    with pytest.raises(Refused):
        await world.settle()
    found = await world.conditions()
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("False", "ReconcileFailed")
    assert "must be less than or equal to cpu limit" in found["Degraded"]["message"]
