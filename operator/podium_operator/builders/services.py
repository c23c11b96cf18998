"""The application: auth, scores, scoreboard, projector, analytics. One image, a Deployment for each role. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from podium_operator.builders import config, purge
from podium_operator.builders.base import (
    CONFIG_CHECKSUM,
    CONNECTIONS_METRIC,
    PODIUM_UID,
    SERVICE_PORT,
    Inputs,
    checksum,
    connection_metrics_pod,
    container_security,
    labels,
    metadata,
    network_policy,
    operator_pod,
    pod_disruption_budget,
    pod_security,
    pods_of,
    port,
    selector,
    service,
    service_account,
    spread,
    tcp,
)
from podium_operator.spec import JSON, ScoreboardService, Service

PYTHON = "/opt/podium/bin/python"
"""The interpreter of the podium image (docs/images.md)."""

ENDPOINT_GRACE_SECONDS = 5
"""A pod that goes away still serves this long, until every proxy has taken its address out."""

TERMINATION_SECONDS = 115
"""Longer than the grace above, the longest drain of WebSockets and the last requests together."""

PROGRESS_DEADLINE_SECONDS = 180
"""A roll-out that makes no step for this long has failed and is taken back."""

CONNECTIONS_BEHAVIOR: JSON = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": 4, "periodSeconds": 15},
        ],
        "selectPolicy": "Max",
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "policies": [
            {"type": "Pods", "value": 1, "periodSeconds": 120},
            {"type": "Percent", "value": 10, "periodSeconds": 120},
        ],
        "selectPolicy": "Max",
    },
}
"""How fast the number of pods with connections may change. Up at once. Down after five quiet minutes, and then by a
pod (of many, a tenth) in two minutes, longer than its drain: each one that goes sends its watchers to the others."""

STORE_PORTS = {"postgres": 5432, "redis": 6379, "nats": 4222}


@dataclass(frozen=True)
class Role:
    """One service: what it runs and what it may reach."""

    name: str
    module: str
    secrets: tuple[str, ...]
    """Mounted Secrets by suffix."""
    stores: tuple[str, ...]
    public: bool
    """Whether the gateway sends requests to it."""
    purges: bool = False
    """Whether it makes the calls of `spec.cdn.purge`."""


ROLES = (
    Role("auth", "podium.auth", ("postgres", "redis", "nats", "jwt", "jwks", "signing", "clients"),
         ("postgres", "redis", "nats"), public=True),
    Role("scores", "podium.scores", ("postgres", "redis", "nats", "jwks", "signing"),
         ("postgres", "redis", "nats"), public=True),
    Role("scoreboard", "podium.scoreboard", ("postgres", "redis", "nats", "jwks"),
         ("postgres", "redis", "nats"), public=True),
    Role("projector", "podium.scoreboard.projector", ("postgres", "redis", "nats"),
         ("postgres", "redis", "nats"), public=False, purges=True),
    Role("analytics", "podium.analytics", ("postgres", "redis", "nats", "jwks"),
         ("postgres", "redis", "nats"), public=True),
)  # fmt: skip
"""In the order in which they are applied."""


def build(inputs: Inputs) -> list[JSON]:
    """All objects of all roles."""
    return [item for role in ROLES for item in _role(inputs, role)]


def settings_of(inputs: Inputs, role: Role) -> Service:
    """The part of the spec that scales this role."""
    chosen: Service = getattr(inputs.spec.services, role.name)
    return chosen


def _role(inputs: Inputs, role: Role) -> list[JSON]:
    return [
        service_account(inputs, role.name),
        service(inputs, role.name, [port("http", SERVICE_PORT, "http")]),
        _policy(inputs, role),
        _deployment(inputs, role),
        _autoscaler(inputs, role),
        pod_disruption_budget(inputs, role.name),
    ]


def telemetry_egress(inputs: Inputs) -> list[JSON]:
    """Egress rule for the trace collector, wherever it runs; none if nothing is exported."""
    endpoint = inputs.spec.observability.otlp_endpoint
    if not endpoint:
        return []
    scheme, _, rest = endpoint.partition("://")
    number = rest.rpartition(":")[2] if ":" in rest else ("443" if scheme == "https" else "80")
    return [{"ports": tcp(int(number))}]


def store_egress(inputs: Inputs, stores: tuple[str, ...]) -> list[JSON]:
    """Egress rules for the stores; to an external one by its ports only, for a policy knows no host names."""
    return [
        {"ports": tcp(*inputs.external[store].ports())}
        if store in inputs.external
        else {"to": pods_of(inputs, store), "ports": tcp(STORE_PORTS[store])}
        for store in stores
    ]


def _policy(inputs: Inputs, role: Role) -> JSON:
    callers = [*(pods_of(inputs, "gateway") if role.public else []), *operator_pod(inputs)]
    if _holds_connections(settings_of(inputs, role)):
        callers += connection_metrics_pod(inputs)
    return network_policy(
        inputs,
        role.name,
        ingress=[{"from": callers, "ports": tcp(SERVICE_PORT)}],
        egress=[
            *store_egress(inputs, role.stores),
            *telemetry_egress(inputs),
            *(purge.egress(inputs) if role.purges else []),
        ],
    )


def _probe(path: str, period: int, failures: int, timeout: int = 3) -> JSON:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def container(inputs: Inputs, role: Role) -> JSON:
    """The one container of a role's pods."""
    mounts = config.secret_mounts(inputs, role.secrets)[1]
    return {
        "name": role.name,
        "image": inputs.images.podium,
        "imagePullPolicy": inputs.images.pull_policy,
        "command": [PYTHON, "-m", role.module],
        "envFrom": [{"configMapRef": {"name": inputs.object_name("config")}}],
        "env": [
            {"name": "PODIUM_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "OTEL_SERVICE_NAME", "value": f"podium-{role.name}"},
            *config.secret_environment(inputs, role.secrets),
            *(purge.environment(inputs) if role.purges else []),
        ],
        "ports": [{"name": "http", "containerPort": SERVICE_PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/healthz/live", period=1, failures=90),
        "readinessProbe": _probe("/healthz/ready", period=2, failures=2),
        "livenessProbe": _probe("/healthz/live", period=10, failures=3, timeout=5),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_GRACE_SECONDS}}},
        "resources": settings_of(inputs, role).resources.as_kubernetes(),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "rules", "mountPath": config.RULES_PATH, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (an emptyDir of the pod's own)
            *mounts,
            *(purge.mounts(inputs) if role.purges else []),
        ],
    }


def volumes(inputs: Inputs, secrets: tuple[str, ...]) -> list[JSON]:
    """Volumes of the application's pods."""
    return [
        {"name": "rules", "configMap": {"name": inputs.object_name("rules")}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        *config.secret_mounts(inputs, secrets)[0],
    ]


def template_checksum(inputs: Inputs, role: Role) -> str:
    """Changes with all that a pod of this role reads at its start."""
    secrets = {suffix: inputs.secret_checksums.get(suffix) for suffix in role.secrets if suffix != "jwks"}
    secrets |= {store: external.checksum for store, external in inputs.external.items()}
    return checksum([config.environment(inputs), config.rules(inputs), secrets])


def _deployment(inputs: Inputs, role: Role) -> JSON:
    """No `replicas`: the autoscaler owns that field."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(inputs, role.name),
        "spec": {
            "selector": {"matchLabels": selector(inputs.name, role.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "revisionHistoryLimit": 3,
            "template": {
                "metadata": {
                    "labels": labels(inputs.name, role.name),
                    "annotations": {CONFIG_CHECKSUM: template_checksum(inputs, role)},
                },
                "spec": {
                    "serviceAccountName": inputs.object_name(role.name),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": pod_security(fs_group=PODIUM_UID),
                    "terminationGracePeriodSeconds": TERMINATION_SECONDS,
                    "topologySpreadConstraints": spread(inputs.name, role.name),
                    "containers": [container(inputs, role)],
                    "volumes": [
                        *volumes(inputs, role.secrets),
                        *(purge.volumes(inputs) if role.purges else []),
                    ],
                },
            },
        },
    }


def _holds_connections(scaling: Service) -> TypeGuard[ScoreboardService]:
    """Whether the pods of a service are scaled by the connections that they hold, too."""
    return isinstance(scaling, ScoreboardService)


def _quantity(number: int) -> str:
    """A number as the API server writes it, so that what it answers is what was applied."""
    return f"{number // 1000}k" if number % 1000 == 0 else str(number)


def _autoscaler(inputs: Inputs, role: Role) -> JSON:
    """By CPU; the scoreboard by its connections as well: whichever of the two asks for more pods."""
    scaling = settings_of(inputs, role)
    target: JSON = {"type": "Utilization", "averageUtilization": scaling.target_cpu_utilization}
    metrics: list[JSON] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior: JSON = {}
    if _holds_connections(scaling):
        average = {"type": "AverageValue", "averageValue": _quantity(scaling.target_connections_per_pod)}
        metrics.append({"type": "Pods", "pods": {"metric": {"name": CONNECTIONS_METRIC}, "target": average}})
        behavior = {"behavior": CONNECTIONS_BEHAVIOR}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(inputs, role.name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": inputs.object_name(role.name)},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": metrics,
            **behavior,
        },
    }
