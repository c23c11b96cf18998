"""NATS with JetStream: three servers that lose no acknowledged message. Pure."""

from __future__ import annotations

import json

from podium_operator.builders import base, stateful
from podium_operator.builders.base import Inputs
from podium_operator.spec import JSON, Nats

COMPONENT = "nats"
CLIENT_PORT = 4222
ROUTE_PORT = 6222
MONITOR_PORT = 8222
"""TCP ports: clients, routes between servers, monitoring."""
CLIENTS = ("scores", "scoreboard", "projector", "auth", "analytics", "migrate")
"""Components that use NATS."""
USER = "podium"
"""User name of all clients."""

_CONFIG = "/etc/podium/nats"
_RUN = "/run/nats"
_DISK_SHARE = 0.85
"""Share of the volume for streams; the rest is for RAFT logs and compaction."""


def peers_name(inputs: Inputs) -> str:
    """Name of the headless Service that gives each server its own host name."""
    return inputs.object_name("nats-peers")


def configuration(inputs: Inputs) -> str:
    """nats-server.conf. `$NAME` is a variable of the environment, so secrets stay out of the ConfigMap."""
    nats = inputs.spec.nats
    disk = stateful.mebibytes(nats.storage, _DISK_SHARE)
    lines = [
        "server_name: $POD_NAME",
        f"port: {CLIENT_PORT}",
        f"http_port: {MONITOR_PORT}",
        f'pid_file: "{_RUN}/nats.pid"',
        "max_payload: 1MB",
        "write_deadline: 10s",
        'ping_interval: "20s"',
        "ping_max: 2",
        "lame_duck_grace_period: 2s",
        "lame_duck_duration: 30s",
        f'authorization {{ user: "{USER}", password: $NATS_PASSWORD, timeout: 5 }}',
        # The default syncs to disk every two minutes: a power cut would lose what was acknowledged.
        f'jetstream {{ store_dir: "/data", max_file_store: {disk}MB, max_memory_store: 64MB, sync_interval: always }}',
    ]
    if nats.replicas > 1:
        routes = ", ".join(f"$ROUTE_{number}" for number in range(nats.replicas))
        lines += [
            "cluster {",
            f"  name: {json.dumps(inputs.object_name(COMPONENT))}",
            f"  port: {ROUTE_PORT}",
            "  authorization { user: route, password: $NATS_PASSWORD, timeout: 5 }",
            f"  routes: [{routes}]",
            # Clients come through the Service; addresses of pods would be stale after a restart.
            "  no_advertise: true",
            "}",
        ]
    return "\n".join(lines) + "\n"


def build(inputs: Inputs) -> list[JSON]:
    """All objects of NATS."""
    nats = inputs.spec.nats
    files = {"nats-server.conf": configuration(inputs)}
    peers = base.pods_of(inputs, COMPONENT)
    return [
        base.service_account(inputs, COMPONENT),
        base.config_map(inputs, COMPONENT, files),
        base.service(inputs, COMPONENT, [base.port("nats", CLIENT_PORT)]),
        base.service(
            inputs,
            COMPONENT,
            [base.port("nats", CLIENT_PORT), base.port("route", ROUTE_PORT), base.port("monitor", MONITOR_PORT)],
            name=peers_name(inputs),
            clusterIP="None",
            publishNotReadyAddresses=True,
        ),
        base.pod_disruption_budget(inputs, COMPONENT),
        base.network_policy(
            inputs,
            COMPONENT,
            ingress=[
                {"from": base.pods_of(inputs, *CLIENTS), "ports": base.tcp(CLIENT_PORT)},
                {"from": peers, "ports": base.tcp(ROUTE_PORT)},
                {"from": base.operator_pod(inputs), "ports": base.tcp(MONITOR_PORT)},
            ],
            egress=[{"to": peers, "ports": base.tcp(ROUTE_PORT)}],
        ),
        stateful.stateful_set(
            inputs,
            COMPONENT,
            replicas=nats.replicas,
            service_name=peers_name(inputs),
            storage=nats.storage,
            pod_spec=_pod_spec(inputs, nats),
            annotations={base.CONFIG_CHECKSUM: base.checksum(files)},
        ),
    ]


def _environment(inputs: Inputs, nats: Nats) -> list[JSON]:
    memory = stateful.mebibytes(stateful.memory_limit(nats.resources, "256Mi"), 0.8)
    routes = [
        {
            "name": f"ROUTE_{number}",
            "value": f'"nats://route:$(PASSWORD)@{inputs.object_name(COMPONENT)}-{number}.{peers_name(inputs)}'
            f'.{inputs.namespace}.svc:{ROUTE_PORT}"',
        }
        for number in range(nats.replicas)
    ]
    return [
        stateful.field_env("POD_NAME", "metadata.name"),
        stateful.secret_env("PASSWORD", inputs.object_name(COMPONENT), "password"),
        # In quotes, or a password such as 12e5 would be read as a number.
        {"name": "NATS_PASSWORD", "value": '"$(PASSWORD)"'},
        {"name": "GOMEMLIMIT", "value": f"{memory}MiB"},
        *(routes if nats.replicas > 1 else []),
    ]


def _pod_spec(inputs: Inputs, nats: Nats) -> JSON:
    def health(query: str, **numbers: int) -> JSON:
        return stateful.http_probe(f"/healthz?{query}", "monitor", **numbers)

    return {
        "serviceAccountName": inputs.object_name(COMPONENT),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 50,
        "securityContext": base.pod_security(fs_group=base.PODIUM_UID),
        "topologySpreadConstraints": base.spread(inputs.name, COMPONENT),
        "containers": [
            {
                "name": COMPONENT,
                "image": inputs.images.nats,
                "imagePullPolicy": inputs.images.pull_policy,
                "command": ["nats-server", "--config", f"{_CONFIG}/nats-server.conf"],
                "env": _environment(inputs, nats),
                "ports": [
                    {"name": "nats", "containerPort": CLIENT_PORT},
                    {"name": "route", "containerPort": ROUTE_PORT},
                    {"name": "monitor", "containerPort": MONITOR_PORT},
                ],
                "resources": nats.resources.as_kubernetes(),
                "securityContext": base.container_security(),
                # Liveness asks only whether JetStream is on: a server that catches up with its peers must not be
                # killed, it would start over. Readiness asks whether it has found the others.
                "startupProbe": health("js-enabled-only=true", period=1, failures=300),
                "livenessProbe": health("js-enabled-only=true", period=15, timeout=5, failures=4),
                "readinessProbe": health("js-server-only=true", period=5, failures=3),
                "lifecycle": {
                    "preStop": {"exec": {"command": ["nats-server", "--signal", f"ldm={_RUN}/nats.pid"]}},
                },
                "volumeMounts": [
                    stateful.mount("data", "/data"),
                    stateful.mount("run", _RUN),
                    stateful.mount("config", _CONFIG, read_only=True),
                ],
            }
        ],
        "volumes": [
            stateful.scratch_volume("run", "1Mi", in_memory=True),
            stateful.config_volume("config", inputs.object_name(COMPONENT)),
        ],
    }
