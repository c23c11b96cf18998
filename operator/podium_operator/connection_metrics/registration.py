"""Registers this process for `custom.metrics.k8s.io`, unless somebody else serves that group. Does I/O.

A group has one server in a cluster, and the autoscaler asks only its preferred version: to take one version from
another adapter would take all its metrics away. So a foreign registration of either version makes this one step back.
"""

from __future__ import annotations

import base64

from podium_operator.builders.base import CONNECTION_METRICS
from podium_operator.cluster import Cluster, Kind
from podium_operator.connection_metrics.documents import GROUP, VERSIONS
from podium_operator.connection_metrics.settings import MetricsSettings
from podium_operator.spec import JSON

API_SERVICE = Kind("apiregistration.k8s.io/v1", "APIService", "apiservices")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles")


def names() -> list[str]:
    """Names of the registrations, the preferred version first."""
    return [f"{version}.{GROUP}" for version in VERSIONS]


def is_ours(item: JSON, settings: MetricsSettings) -> bool:
    """Whether a registration leads to our Service."""
    service = item["spec"].get("service") or {}
    return bool(service.get("name") == settings.service and service.get("namespace") == settings.namespace)


def wanted(version: str, certificate: str, owner: JSON, settings: MetricsSettings) -> JSON:
    """The registration of a version, for a server that shows this certificate (PEM)."""
    return {
        "apiVersion": API_SERVICE.api_version,
        "kind": API_SERVICE.kind,
        "metadata": {
            "name": f"{version}.{GROUP}",
            "labels": {"app.kubernetes.io/managed-by": CONNECTION_METRICS},
            # An APIService without a server breaks discovery and the deletion of namespaces: it must not outlive it.
            "ownerReferences": [
                {
                    "apiVersion": CLUSTER_ROLE.api_version,
                    "kind": CLUSTER_ROLE.kind,
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                }
            ],
        },
        "spec": {
            "group": GROUP,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100 * (len(VERSIONS) - VERSIONS.index(version)),
            "caBundle": base64.b64encode(certificate.encode()).decode(),
            "service": {
                "namespace": settings.namespace,
                "name": settings.service,
                "port": settings.service_port,
            },
        },
    }


async def register(cluster: Cluster, settings: MetricsSettings, certificate: str) -> list[str]:
    """Register all versions, and return none; or step back, and return the names of the foreign registrations.

    Raises Conflict if somebody else registers at the same moment (the next try sees that), Refused or OSError.
    """
    found = {name: await cluster.get(API_SERVICE, None, name) for name in names()}
    foreign = [name for name, item in found.items() if item is not None and not is_ours(item, settings)]
    if foreign:
        for name, item in found.items():
            if item is not None and name not in foreign:
                await cluster.delete(API_SERVICE, None, name, item["metadata"]["uid"])
        return foreign
    owner = await cluster.get(CLUSTER_ROLE, None, settings.owner)
    if owner is None:
        raise LookupError(f"there is no ClusterRole {settings.owner}")
    for version in VERSIONS:
        # Not forced: fields of a registration that was made in between stay their maker's.
        await cluster.apply(API_SERVICE, wanted(version, certificate, owner, settings), CONNECTION_METRICS, force=False)
    return []
