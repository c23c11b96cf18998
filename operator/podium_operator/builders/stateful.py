"""What the builders of the stores share: quantities, probes, volumes, a StatefulSet. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podium_operator.builders import base
from podium_operator.builders.base import Inputs
from podium_operator.spec import JSON, Resources

_UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


def amount(quantity: str) -> float:
    """Value of a Kubernetes quantity in its base unit (bytes, cores). Raises ValueError for any other form."""
    digits = quantity.rstrip("".join({letter for unit in _UNITS for letter in unit}))
    unit = quantity[len(digits) :]
    if unit not in _UNITS:
        raise ValueError(f"not a quantity: {quantity!r}")
    return float(digits) * _UNITS[unit]


def mebibytes(quantity: str, share: float = 1.0) -> int:
    """A share of a quantity of bytes in whole MiB, at least 1."""
    return max(1, int(amount(quantity) * share / 2**20))


def memory_limit(resources: Resources, default: str) -> str:
    """The memory that a container may use: its limit, else its request, else `default`."""
    return resources.limits.get("memory") or resources.requests.get("memory") or default


def exec_probe(command: Sequence[str], *, period: int, timeout: int = 5, failures: int = 3) -> JSON:
    """A probe that runs a command in the container; `period` and `timeout` in seconds."""
    return {
        "exec": {"command": list(command)},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def http_probe(path: str, port: str, *, period: int, timeout: int = 3, failures: int = 3) -> JSON:
    """A probe by HTTP GET on a named port; `period` and `timeout` in seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def field_env(name: str, path: str) -> JSON:
    """An environment variable with a field of the pod, such as `metadata.name`."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def secret_env(name: str, secret: str, key: str) -> JSON:
    """An environment variable with a value of a Secret, for programs that cannot read it from a file."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def config_volume(name: str, config_map: str) -> JSON:
    """A volume with the files of a ConfigMap."""
    return {"name": name, "configMap": {"name": config_map}}


def secret_volume(name: str, secret: str, keys: Sequence[str]) -> JSON:
    """A volume with some keys of a Secret as files that only the pod's group can read (with fsGroup)."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": 0o440}}


def scratch_volume(name: str, size: str, *, in_memory: bool = False) -> JSON:
    """An emptyDir of at most `size`."""
    return {"name": name, "emptyDir": {"sizeLimit": size, **({"medium": "Memory"} if in_memory else {})}}


def mount(name: str, path: str, *, read_only: bool = False) -> JSON:
    """Where a volume appears in a container."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def stateful_set(
    inputs: Inputs,
    component: str,
    *,
    replicas: int,
    service_name: str,
    storage: str,
    pod_spec: Mapping[str, Any],
    annotations: Mapping[str, str],
    pod_labels: Mapping[str, str] | None = None,
    min_ready_seconds: int = 0,
) -> JSON:
    """A StatefulSet with one volume `data` for each pod.

    Pods start together: none of the stores can become ready before its peers are there. Volumes outlive the
    StatefulSet; the deletion policy of the Scoreboard decides about them.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": base.metadata(inputs, component),
        "spec": {
            "replicas": replicas,
            "serviceName": service_name,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "minReadySeconds": min_ready_seconds,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "selector": {"matchLabels": base.selector(inputs.name, component)},
            "template": {
                "metadata": {
                    "labels": {**base.labels(inputs.name, component), **(pod_labels or {})},
                    "annotations": dict(annotations),
                },
                "spec": dict(pod_spec),
            },
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "data", "labels": base.labels(inputs.name, component)},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
                }
            ],
        },
    }
