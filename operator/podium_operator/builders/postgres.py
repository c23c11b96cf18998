"""PostgreSQL under Patroni, with Kubernetes as its store: one primary, the others read replicas. Pure."""

from __future__ import annotations

import yaml

from podium_operator.builders import base, patroni, stateful
from podium_operator.builders.base import Inputs
from podium_operator.spec import JSON

COMPONENT = "postgres"
UID = 999
"""User and group of the image: initdb wants a user with a name (docs/images.md)."""
CLIENTS = ("scores", "scoreboard", "projector", "auth", "analytics", "migrate", "maintenance")
"""Components that use the database."""

_STOP_SECONDS = 60
"""How long a fast shutdown, with its checkpoint, may take."""


def build(inputs: Inputs) -> list[JSON]:
    """All objects of PostgreSQL."""
    postgres = inputs.spec.postgres
    files = {
        "patroni.yaml": yaml.safe_dump(patroni.configuration(inputs), sort_keys=False),
        "bootstrap.sh": patroni.BOOTSTRAP,
    }
    # The shared part also reaches a running cluster, through stores.postgres: no reason to restart it.
    fixed = patroni.configuration(inputs)
    fixed["bootstrap"].pop("dcs")
    client_port = [base.port("postgres", patroni.PORT)]
    reader = patroni.REPLICA if postgres.instances > 1 else patroni.PRIMARY
    members = base.pods_of(inputs, COMPONENT)
    both = base.tcp(patroni.PORT, patroni.API_PORT)
    return [
        {**base.service_account(inputs, COMPONENT), "automountServiceAccountToken": True},
        *_rights(inputs),
        base.config_map(inputs, COMPONENT, files),
        base.service(
            inputs,
            COMPONENT,
            [*client_port, base.port("patroni", patroni.API_PORT)],
            clusterIP="None",
            publishNotReadyAddresses=True,
        ),
        *(
            base.service(
                inputs,
                COMPONENT,
                client_port,
                name=inputs.object_name(f"{COMPONENT}-{suffix}"),
                extra_selector={patroni.ROLE_LABEL: role},
            )
            for suffix, role in (("rw", patroni.PRIMARY), ("ro", reader))
        ),
        base.pod_disruption_budget(inputs, COMPONENT),
        base.network_policy(
            inputs,
            COMPONENT,
            ingress=[
                {"from": base.pods_of(inputs, *CLIENTS), "ports": base.tcp(patroni.PORT)},
                {"from": members, "ports": both},
                {"from": base.operator_pod(inputs), "ports": base.tcp(patroni.API_PORT)},
            ],
            # The API server has no pods to select; its port is 443 behind the Service and often 6443 itself.
            egress=[{"to": members, "ports": both}, {"ports": base.tcp(443, 6443)}],
        ),
        stateful.stateful_set(
            inputs,
            COMPONENT,
            replicas=postgres.instances,
            service_name=inputs.object_name(COMPONENT),
            storage=postgres.storage,
            pod_spec=_pod_spec(inputs),
            pod_labels={patroni.SCOPE_LABEL: patroni.scope(inputs)},
            annotations={base.CONFIG_CHECKSUM: base.checksum([fixed, patroni.BOOTSTRAP])},
        ),
    ]


def _rights(inputs: Inputs) -> list[JSON]:
    """What Patroni may do: its own four ConfigMaps, and the labels of its own pods."""
    owned = [f"{patroni.scope(inputs)}-{suffix}" for suffix in ("config", "leader", "sync", "failover", "failsafe")]
    pods = [f"{inputs.object_name(COMPONENT)}-{ordinal}" for ordinal in range(inputs.spec.postgres.instances)]
    name = inputs.object_name(COMPONENT)
    rbac = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": base.metadata(inputs, COMPONENT),
            "rules": [
                # Kubernetes cannot limit these verbs to names.
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "list", "watch"]},
                {
                    "apiGroups": [""],
                    "resources": ["configmaps"],
                    "resourceNames": owned,
                    "verbs": ["get", "update", "patch", "delete"],
                },
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
                {"apiGroups": [""], "resources": ["pods"], "resourceNames": pods, "verbs": ["get", "update", "patch"]},
            ],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": base.metadata(inputs, COMPONENT),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": inputs.namespace}],
        },
    ]


def _environment(inputs: Inputs) -> list[JSON]:
    secret = inputs.object_name(COMPONENT)
    return [
        stateful.field_env("PATRONI_NAME", "metadata.name"),
        stateful.field_env("PATRONI_KUBERNETES_NAMESPACE", "metadata.namespace"),
        stateful.field_env("PATRONI_KUBERNETES_POD_IP", "status.podIP"),
        {"name": "PATRONI_POSTGRESQL_CONNECT_ADDRESS", "value": f"$(PATRONI_KUBERNETES_POD_IP):{patroni.PORT}"},
        {"name": "PATRONI_RESTAPI_CONNECT_ADDRESS", "value": f"$(PATRONI_KUBERNETES_POD_IP):{patroni.API_PORT}"},
        # Patroni takes passwords from its configuration or from here; the configuration is no secret.
        stateful.secret_env("PATRONI_SUPERUSER_PASSWORD", secret, "superuserPassword"),
        stateful.secret_env("PATRONI_REPLICATION_PASSWORD", secret, "replicationPassword"),
        {"name": "PATRONI_RESTAPI_USERNAME", "value": patroni.API_USER},
        stateful.secret_env("PATRONI_RESTAPI_PASSWORD", secret, "superuserPassword"),
    ]


def _pod_spec(inputs: Inputs) -> JSON:
    return {
        "serviceAccountName": inputs.object_name(COMPONENT),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        "securityContext": base.pod_security(UID, fs_group=UID),
        "topologySpreadConstraints": base.spread(inputs.name, COMPONENT),
        "containers": [
            {
                "name": COMPONENT,
                "image": inputs.images.postgres,
                "imagePullPolicy": inputs.images.pull_policy,
                "command": ["/opt/patroni/bin/patroni", f"{patroni.CONFIG_PATH}/patroni.yaml"],
                "env": _environment(inputs),
                "ports": [
                    {"name": "postgres", "containerPort": patroni.PORT},
                    {"name": "patroni", "containerPort": patroni.API_PORT},
                ],
                "resources": inputs.spec.postgres.resources.as_kubernetes(),
                "securityContext": base.container_security(),
                # Patroni's own loop is what must live; it restarts PostgreSQL itself.
                "startupProbe": stateful.http_probe("/liveness", "patroni", period=1, failures=120),
                "livenessProbe": stateful.http_probe("/liveness", "patroni", period=10, timeout=5, failures=6),
                "readinessProbe": stateful.http_probe("/readiness", "patroni", period=2, failures=2),
                "volumeMounts": [
                    stateful.mount("data", patroni.DATA_PATH),
                    stateful.mount("run", patroni.RUN_PATH),
                    stateful.mount("tmp", "/tmp"),  # noqa: S108 - an emptyDir of this pod
                    stateful.mount("config", patroni.CONFIG_PATH, read_only=True),
                    stateful.mount("secret", patroni.SECRET_PATH, read_only=True),
                ],
            }
        ],
        "volumes": [
            stateful.scratch_volume("run", "16Mi"),
            stateful.scratch_volume("tmp", "64Mi"),
            stateful.config_volume("config", inputs.object_name(COMPONENT)),
            stateful.secret_volume("secret", inputs.object_name(COMPONENT), ["password"]),
        ],
    }
