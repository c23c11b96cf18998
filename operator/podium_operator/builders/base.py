"""What all builders share: their inputs, names, labels, security contexts and network policies. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podium_operator.spec import JSON, ScoreboardSpec

APP = "podium"
MANAGER = "podium-operator"
"""Value of the managed-by label and the field manager of server-side apply."""

CONNECTION_METRICS = "podium-connection-metrics"
"""Name label of the pods that serve the autoscaler's metric, and their field manager of server-side apply."""

CONNECTIONS_METRIC = "podium_scoreboard_connections"
"""Gauge of each scoreboard pod: its open connections, by kind and agent; the autoscaler's metric is their sum."""

PODIUM_UID = 65532
"""User and group id of all our images but PostgreSQL's (docs/images.md)."""

SERVICE_PORT = 8080
"""TCP port of every application service."""

CONFIG_CHECKSUM = "podium.dev/config-checksum"
"""Annotation of pod templates: changes when mounted configuration changes, so the pods roll."""


@dataclass(frozen=True)
class Images:
    """Full image references (`repository:tag`) that the operator was told to use."""

    podium: str
    redis: str
    nats: str
    postgres: str
    envoy: str
    ratelimit: str
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True)
class External:
    """A store that others run, as its Secret describes it; the values themselves stay in the Secret."""

    secret: str
    """Name of the Secret."""
    keys: tuple[str, ...] = ()
    """The keys that it has, of those that are known."""
    addresses: tuple[tuple[str, int], ...] = ()
    """Host and TCP port of all that is connected to."""
    checksum: str = ""
    """Changes with the values."""
    problem: str = ""
    """Why the Secret is not enough, for a person."""

    def ports(self) -> list[int]:
        """The TCP ports, each once."""
        return sorted({port for _, port in self.addresses})


@dataclass(frozen=True)
class Inputs:
    """All a builder may look at. Everything that is not declared for the component is at its default."""

    name: str
    """Name of the Scoreboard, the prefix of all object names."""
    namespace: str
    spec: ScoreboardSpec
    images: Images
    version: str
    """Resolved application version (the tag of the podium image)."""
    operator_namespace: str = "podium-system"
    """Namespace of the operator, whose pod looks at the stores and at metrics."""
    secret_checksums: Mapping[str, str] = field(default_factory=dict)
    """Checksum of the data of operator-made Secrets by suffix (`jwks`, …), for those the component declared."""
    external: Mapping[str, External] = field(default_factory=dict)
    """External stores by component (`redis`, `nats`, `postgres`), for those the component declared."""

    def object_name(self, suffix: str) -> str:
        """`<scoreboard>-<suffix>`."""
        return f"{self.name}-{suffix}"

    def dns(self, suffix: str) -> str:
        """Host name of the Service `<scoreboard>-<suffix>` inside the cluster."""
        return f"{self.object_name(suffix)}.{self.namespace}.svc"


def labels(name: str, component: str) -> dict[str, str]:
    """Labels of every object of a component."""
    return {**selector(name, component), "app.kubernetes.io/managed-by": MANAGER}


def selector(name: str, component: str | None = None) -> dict[str, str]:
    """Labels that select the pods of a component, or of the whole Scoreboard."""
    chosen = {"app.kubernetes.io/name": APP, "app.kubernetes.io/instance": name}
    return chosen if component is None else {**chosen, "app.kubernetes.io/component": component}


def metadata(
    inputs: Inputs, component: str, name: str | None = None, annotations: Mapping[str, str] | None = None
) -> JSON:
    """Metadata of an object; `name` is the whole name, by default `<scoreboard>-<component>`.

    Owner references are added when it is applied.
    """
    result: JSON = {
        "name": name or inputs.object_name(component),
        "namespace": inputs.namespace,
        "labels": labels(inputs.name, component),
    }
    if annotations:
        result["annotations"] = dict(annotations)
    return result


def checksum(value: Any) -> str:
    """Short stable fingerprint (16 hex digits) of any JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def pod_security(uid: int = PODIUM_UID, fs_group: int | None = None) -> JSON:
    """Pod securityContext that satisfies the Pod Security Standard `restricted`."""
    context: JSON = {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if fs_group is not None:
        context |= {"fsGroup": fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    return context


def container_security() -> JSON:
    """Container securityContext: no privileges, no capabilities, a read-only root."""
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def spread(name: str, component: str) -> list[JSON]:
    """Topology spread over nodes and zones, as far as the cluster has them."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(name, component)},
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]


def config_map(inputs: Inputs, component: str, data: Mapping[str, str], name: str | None = None) -> JSON:
    """A ConfigMap of the component."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(inputs, component, name), "data": dict(data)}


def service_account(inputs: Inputs, component: str) -> JSON:
    """A ServiceAccount whose token is not mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(inputs, component),
        "automountServiceAccountToken": False,
    }


def pod_disruption_budget(inputs: Inputs, component: str) -> JSON:
    """At most one pod away by a voluntary disruption; never blocks the drain of a single replica."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(inputs, component),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(inputs.name, component)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def service(
    inputs: Inputs,
    component: str,
    ports: Sequence[JSON],
    name: str | None = None,
    extra_selector: Mapping[str, str] | None = None,
    **fields: Any,
) -> JSON:
    """A Service; `fields` are further fields of its spec, such as `clusterIP="None"`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(inputs, component, name),
        "spec": {
            "selector": {**selector(inputs.name, component), **(extra_selector or {})},
            "ports": list(ports),
            **fields,
        },
    }


def port(name: str, number: int, target: int | str | None = None) -> JSON:
    """A TCP port of a Service."""
    return {"name": name, "port": number, "targetPort": target if target is not None else number, "protocol": "TCP"}


def pods_of(inputs: Inputs, *components: str) -> list[JSON]:
    """Network-policy peers: the pods of these components of the same Scoreboard."""
    return [{"podSelector": {"matchLabels": selector(inputs.name, component)}} for component in components]


def operator_pod(inputs: Inputs) -> list[JSON]:
    """Network-policy peer: the operator."""
    return [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": inputs.operator_namespace}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": MANAGER}},
        }
    ]


def connection_metrics_pod(inputs: Inputs) -> list[JSON]:
    """Network-policy peer: the server of the autoscaler's metric, which asks the pods for their connections."""
    return [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": inputs.operator_namespace}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": CONNECTION_METRICS}},
        }
    ]


def tcp(*ports: int) -> list[JSON]:
    """Network-policy ports."""
    return [{"port": number, "protocol": "TCP"} for number in ports]


def network_policy(inputs: Inputs, component: str, ingress: Iterable[JSON] = (), egress: Iterable[JSON] = ()) -> JSON:
    """What may reach the component's pods and what they may reach; all else but DNS is denied by default.

    A rule is `{"from"|"to": pods_of(...), "ports": tcp(...)}`; without `from`/`to` it means everywhere.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(inputs, component),
        "spec": {
            "podSelector": {"matchLabels": selector(inputs.name, component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": list(ingress),
            "egress": list(egress),
        },
    }
