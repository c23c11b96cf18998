"""Properties that every rendered service has."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from podium.common.settings import ProcessSettings
from podium_operator.builders import config, migrate, services
from podium_operator.builders.base import CONFIG_CHECKSUM
from podium_operator.spec import JSON
from tests.unit.operator.golden import inputs


def _deployments(spec: JSON | None = None, **changes: Any) -> dict[str, JSON]:
    objects = services.build(inputs(spec, **changes))
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == "Deployment"}


def _checksums(deployments: dict[str, JSON]) -> set[str]:
    return {d["spec"]["template"]["metadata"]["annotations"][CONFIG_CHECKSUM] for d in deployments.values()}


def _pods() -> list[JSON]:
    job = migrate.build(inputs())[-1]
    return [d["spec"]["template"]["spec"] for d in [*_deployments().values(), job]]


@pytest.mark.parametrize("pod", _pods(), ids=lambda pod: str(pod["containers"][0]["name"]))
def test_pods_satisfy_pod_security_restricted(pod: JSON) -> None:
    """Non-root, RuntimeDefault seccomp, no capabilities, no escalation, a read-only root and no API token."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("pod", _pods(), ids=lambda pod: str(pod["containers"][0]["name"]))
def test_secrets_are_files_and_never_in_the_environment(pod: JSON) -> None:
    """No environment entry takes its value from a Secret."""
    (container,) = pod["containers"]
    assert "secretRef" not in str(container.get("envFrom"))
    assert "secretKeyRef" not in str(container["env"])


def test_the_autoscaler_owns_the_number_of_pods() -> None:
    """No Deployment of a service says `replicas`."""
    assert all("replicas" not in item["spec"] for item in _deployments().values())


@pytest.mark.parametrize(
    "spec",
    [
        {"actions": [{"type": "win", "points": 11}]},
        {"tiers": [{"name": "gold", "minScore": 5}]},
        {"security": {"updatesPerUserPerMinute": 11}},
        {"cdn": {"sMaxAge": "2s"}},
    ],
    ids=["actions", "tiers", "limits", "cdn"],
)
def test_a_change_of_rules_rolls_the_services(spec: JSON) -> None:
    """The checksum in the pod templates changes with what the pods read at their start."""
    assert _checksums(_deployments()).isdisjoint(_checksums(_deployments(spec)))


def test_scaling_does_not_roll_the_services() -> None:
    """Another number of replicas leaves the pod templates as they are."""
    scaled = _deployments({"services": {"scores": {"minReplicas": 4}}})
    assert {n: d["spec"]["template"] for n, d in _deployments().items()} == {
        n: d["spec"]["template"] for n, d in scaled.items()
    }


def _autoscaler(component: str, spec: JSON | None = None) -> JSON:
    objects = services.build(inputs(spec))
    (found,) = [
        item
        for item in objects
        if (item["kind"], item["metadata"]["name"]) == ("HorizontalPodAutoscaler", f"arcade-{component}")
    ]
    scaling: JSON = found["spec"]
    return scaling


@pytest.mark.parametrize(("target", "written"), [(5000, "5k"), (2500, "2500"), (1, "1"), (20000, "20k")])
def test_the_scoreboard_is_scaled_by_connections_as_well_as_by_cpu(target: int, written: str) -> None:
    """An average over its pods, in the form in which the API server gives it back."""
    cpu, connections = _autoscaler("scoreboard", {"services": {"scoreboard": {"targetConnectionsPerPod": target}}})[
        "metrics"
    ]
    assert cpu["resource"]["name"] == "cpu"
    assert connections == {
        "type": "Pods",
        "pods": {
            "metric": {"name": "podium_scoreboard_connections"},
            "target": {"type": "AverageValue", "averageValue": written},
        },
    }


def test_services_without_connections_are_scaled_by_cpu_alone() -> None:
    """The other roles have no such field and no such metric."""
    for role in services.ROLES:
        if role.name != "scoreboard":
            assert [metric["type"] for metric in _autoscaler(role.name)["metrics"]] == ["Resource"]
            assert "behavior" not in _autoscaler(role.name)
    with pytest.raises(ValidationError):
        inputs({"services": {"scores": {"targetConnectionsPerPod": 1}}})


def test_pods_with_connections_come_at_once_and_go_one_after_the_other() -> None:
    """A removed pod has drained before the next one is removed."""
    behavior = _autoscaler("scoreboard")["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300
    for policy in behavior["scaleDown"]["policies"]:
        assert policy["periodSeconds"] > services.TERMINATION_SECONDS


def test_a_pod_has_time_to_drain() -> None:
    """The grace of termination holds what comes before the signal and the drain after it, and some requests more."""
    longest = services.ENDPOINT_GRACE_SECONDS + ProcessSettings().drain_seconds
    assert longest + 15 <= services.TERMINATION_SECONDS


def test_only_the_scoreboard_lets_the_metrics_server_in() -> None:
    """Its NetworkPolicy names the pods that ask for the connections; nobody else's does."""
    policies = [item for item in services.build(inputs()) if item["kind"] == "NetworkPolicy"]
    named = {item["metadata"]["name"] for item in policies if "podium-connection-metrics" in str(item)}
    assert named == {"arcade-scoreboard"}


def test_a_changed_client_secret_rolls_auth_only() -> None:
    """Only auth reads the clients' hashes."""
    before = _deployments()
    after = _deployments(secret_checksums={"clients": "c2", "jwt": "j1", "signing": "s1", "jwks": "k1"})
    assert [name for name in before if before[name] != after[name]] == ["arcade-auth"]


def test_rules_keep_the_form_of_the_resource() -> None:
    """Actions reach the services in camelCase with absent fields left out."""
    files = config.rules(inputs({"actions": [{"type": "win", "points": 1, "maxPerMinute": 2}]}))
    assert '"maxPerMinute": 2' in files["actions.json"]
    assert "pointsFrom" not in files["actions.json"]


def test_a_new_version_makes_a_new_migration_job() -> None:
    """A Job's pod cannot be changed, so its name follows what it runs."""
    from dataclasses import replace

    first = inputs()
    second = replace(first, images=replace(first.images, podium="registry.test/podium:1.2.4"))
    assert migrate.build(first)[-1]["metadata"]["name"] != migrate.build(second)[-1]["metadata"]["name"]


def test_rules_do_not_make_a_new_migration_job() -> None:
    """Points, tiers and limits have nothing to do with the schema."""
    changed = inputs({"actions": [{"type": "win", "points": 1}], "security": {"updatesPerUserPerMinute": 3}})
    assert migrate.build(inputs())[-1] == migrate.build(changed)[-1]
