"""Installing Podium and the sample: charts, clients' Secrets, observability, `examples/arcade.yaml`."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from typing import Any

from podium_dev import toolchain
from podium_dev.access import NAME, NAMESPACE
from podium_dev.clusters import Cluster
from podium_dev.console import Stage, StageError, stage
from podium_dev.instance import Instance
from podium_dev.kubectl import Kubectl
from podium_dev.shell import run, wait_until

OPERATOR_NAMESPACE = "podium-system"
OBSERVABILITY_NAMESPACE = "podium-observability"
CLIENTS = ("game", "ops")
"""Clients of the sample; each has the Secret `arcade-client-NAME`."""

_CHARTS = toolchain.REPOSITORY / "charts"
_EXAMPLES = toolchain.REPOSITORY / "examples"
_OPERATOR_IMAGES = ("podium", "redis", "nats", "postgres", "envoy", "ratelimit")
_SECRET_BYTES = 24
_READY_SECONDS = 300
_OPERATOR_SECONDS = 90
_HELM_SECONDS = 60


def install(instance: Instance, cluster: Cluster, refs: Mapping[str, str]) -> None:
    """Install or upgrade the operator, apply the sample, and wait until it is Ready.

    Raises StageError if a chart or manifest is refused or readiness does not come.
    """
    kubectl = cluster.kubectl
    with stage("Install the operator") as shown:
        kubectl.apply(_namespace(OPERATOR_NAMESPACE))
        _helm(instance, cluster, "podium-crds", {})
        _helm(instance, cluster, "podium", {"images": image_values(refs)})
        _wait_operator(kubectl, instance, shown)
    with stage("Apply the sample"):
        kubectl.apply(_namespace(NAMESPACE))
        for client in CLIENTS:
            _create_client(kubectl, client)
        observability = _EXAMPLES / "observability.yaml"
        if observability.exists():
            kubectl.apply(_namespace(OBSERVABILITY_NAMESPACE))
            kubectl.apply(string.Template(observability.read_text()).substitute(_image_variables(refs)))
        _wait_crd(kubectl)
        kubectl.apply((_EXAMPLES / f"{NAME}.yaml").read_text())
        # The resolved version is pinned, so a new operator alone restarts nothing; a code change asks for its version.
        version = refs["podium"].rsplit(":", 1)[1]
        patch = json.dumps({"spec": {"version": version}})
        kubectl.run("--namespace", NAMESPACE, "patch", "scoreboard", NAME, "--type=merge", f"--patch={patch}")
    with stage(f"Scoreboard {NAMESPACE}/{NAME} becomes Ready") as shown:
        wait_until(
            lambda: missing_for_ready(kubectl.get("scoreboards.podium.dev", NAME, NAMESPACE)),
            timeout=_READY_SECONDS,
            stage=shown,
            log=instance.log("kubelet"),
            every=0.5,
        )


def image_values(refs: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The chart's `images` value: name → repository and tag."""
    values = {}
    for name in _OPERATOR_IMAGES:
        repository, tag = refs[name].rsplit(":", 1)
        values[name] = {"repository": repository, "tag": tag}
    return values


def missing_for_ready(scoreboard: Mapping[str, Any] | None) -> str | None:
    """What a Scoreboard still lacks to be Ready in its present generation, in words; None if nothing."""
    if scoreboard is None:
        return "the Scoreboard to be readable"
    generation = scoreboard["metadata"]["generation"]
    conditions = scoreboard.get("status", {}).get("conditions", [])
    ready = next((condition for condition in conditions if condition["type"] == "Ready"), None)
    if ready is None:
        return "the operator to look at it"
    if ready["status"] == "True" and ready.get("observedGeneration") == generation:
        return None
    others = [
        c["type"]
        for c in conditions
        if c["status"] == "False" and c["type"] not in ("Ready", "Progressing", "Degraded")
    ]
    return ready.get("message") or ", ".join(others) or f"generation {generation}"


def uninstall_commands(cluster: Cluster) -> dict[str, list[str]]:
    """What removes Podium from a cluster that is not ours: what → command."""
    delete = ["delete", "--ignore-not-found", "--wait"]
    kubectl, helm = cluster.kubectl, str(toolchain.ensure("helm"))
    return {
        "the sample": kubectl.argv(*delete, "namespace", NAMESPACE, OBSERVABILITY_NAMESPACE),
        "the operator": [
            helm,
            "uninstall",
            "podium",
            "-n",
            OPERATOR_NAMESPACE,
            "--ignore-not-found",
            *cluster.helm_connection,
        ],
        "the resource": [
            helm,
            "uninstall",
            "podium-crds",
            "-n",
            OPERATOR_NAMESPACE,
            "--ignore-not-found",
            *cluster.helm_connection,
        ],
        "the operator's namespace": kubectl.argv(*delete, "namespace", OPERATOR_NAMESPACE),
    }


def _helm(instance: Instance, cluster: Cluster, chart: str, values: Mapping[str, object]) -> None:
    """Install or upgrade a chart, also after a run that was interrupted in the middle of it.

    Helm records an operation before it starts, and refuses another while a record says that one is pending.
    """
    if not (_CHARTS / chart / "Chart.yaml").exists():
        raise StageError(f"charts/{chart} has no Chart.yaml")
    file = instance.state / f"values-{chart}.json"
    file.write_text(json.dumps(values))
    pending = f"owner=helm,name={chart},status in (pending-install,pending-upgrade,pending-rollback)"
    cluster.kubectl.run("--namespace", OPERATOR_NAMESPACE, "delete", "secrets", f"--selector={pending}")
    home = instance.state / "helm"
    run(
        [
            toolchain.ensure("helm"),
            "upgrade",
            "--install",
            chart,
            _CHARTS / chart,
            f"--namespace={OPERATOR_NAMESPACE}",
            "--create-namespace",
            f"--values={file}",
            "--take-ownership",  # of a CRD that somebody applied by hand
            "--force-conflicts",  # of a field that somebody edited by hand
            *cluster.helm_connection,
        ],
        env={
            "HELM_CACHE_HOME": f"{home}/cache",
            "HELM_CONFIG_HOME": f"{home}/config",
            "HELM_DATA_HOME": f"{home}/data",
        },
        timeout=_HELM_SECONDS,
        log=instance.log("helm"),
    )


def _wait_operator(kubectl: Kubectl, instance: Instance, shown: Stage) -> None:
    """Wait for the operator that was just installed; one that crashes is reported with the end of its log."""

    def missing() -> str | None:
        deployment = kubectl.get("deployment", "podium-operator", OPERATOR_NAMESPACE)
        return "the operator's deployment" if deployment is None else missing_for_rollout(deployment)

    try:
        wait_until(missing, timeout=_OPERATOR_SECONDS, stage=shown, log=instance.log("operator"), every=0.5)
    except StageError as error:
        lines = kubectl.run("--namespace", OPERATOR_NAMESPACE, "logs", "deployment/podium-operator", "--tail=200")
        instance.log("operator").write_text(lines)
        raise StageError(f"{error.reason}; {' '.join(lines.splitlines()[-1:])[:300]}", error.log) from error


def missing_for_rollout(deployment: Mapping[str, Any]) -> str | None:
    """What a Deployment still lacks to run its present template with all replicas available; None if nothing."""
    wanted = deployment["spec"].get("replicas", 1)
    status = deployment.get("status", {})
    name = deployment["metadata"]["name"]
    if status.get("observedGeneration") != deployment["metadata"]["generation"]:
        return f"{name} to be observed"
    counts = [status.get(key, 0) for key in ("updatedReplicas", "availableReplicas", "replicas")]
    return None if counts == [wanted] * len(counts) else f"{name} ({counts[1]} of {wanted} available)"


def _namespace(name: str) -> str:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def _create_client(kubectl: Kubectl, client: str) -> None:
    """Make the client's Secret once; one that exists is left as it is."""
    name = f"{NAME}-client-{client}"
    if kubectl.get("secret", name, NAMESPACE) is not None:
        return
    data = {"clientId": client, "clientSecret": secrets.token_urlsafe(_SECRET_BYTES)}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": data,
    }
    kubectl.run("create", "-f", "-", stdin=json.dumps(secret))


def _wait_crd(kubectl: Kubectl) -> None:
    kubectl.run("wait", "--for=condition=Established", "crd/scoreboards.podium.dev", "--timeout=30s")


def _image_variables(refs: Mapping[str, str]) -> dict[str, str]:
    return {f"IMAGE_{name.upper().replace('-', '_')}": ref for name, ref in refs.items()}
