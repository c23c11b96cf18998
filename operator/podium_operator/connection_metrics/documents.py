"""The documents of `custom.metrics.k8s.io`: discovery, values, errors. Pure.

The forms of both versions are those of k8s.io/metrics/pkg/apis/custom_metrics; they differ in how an item names the
metric.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from podium_operator.builders.base import CONNECTIONS_METRIC
from podium_operator.spec import JSON

GROUP = "custom.metrics.k8s.io"
VERSIONS = ("v1beta2", "v1beta1")
"""The versions served, the preferred one first."""

RESOURCE = f"pods/{CONNECTIONS_METRIC}"

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    500: "InternalError",
    503: "ServiceUnavailable",
}


def groups() -> JSON:
    """`/apis`."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}


def group() -> JSON:
    """`/apis/custom.metrics.k8s.io`."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group()}


def _group() -> JSON:
    versions = [{"groupVersion": f"{GROUP}/{version}", "version": version} for version in VERSIONS]
    return {"name": GROUP, "versions": versions, "preferredVersion": versions[0]}


def resources(version: str) -> JSON:
    """`/apis/custom.metrics.k8s.io/VERSION`."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{GROUP}/{version}",
        "resources": [
            {"name": RESOURCE, "singularName": "", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]}
        ],
    }


def values(version: str, namespace: str, readings: Iterable[tuple[str, int]], read_at: datetime) -> JSON:
    """A MetricValueList of pods and their connections, read at that time."""
    metric: JSON = {"metric": {"name": CONNECTIONS_METRIC}}
    if version == "v1beta1":
        metric = {"metricName": CONNECTIONS_METRIC}
    timestamp = read_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "MetricValueList",
        "apiVersion": f"{GROUP}/{version}",
        "metadata": {},
        "items": [
            {
                "describedObject": {"kind": "Pod", "namespace": namespace, "name": pod, "apiVersion": "/v1"},
                **metric,
                "timestamp": timestamp,
                "value": str(connections),
            }
            for pod, connections in readings
        ],
    }


def error(status: int, message: str) -> JSON:
    """The Status object of a refusal."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(status, "Unknown"),
        "code": status,
    }
