"""The entrance: Envoy in front of the services, with a static configuration of its own. Pure."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from podium_operator.builders import base, envoy, envoy_routes, ratelimit, stateful
from podium_operator.builders.base import Inputs
from podium_operator.spec import JSON

COMPONENT = "gateway"
HTTP_PORT = 80
"""Port of the Service for plain HTTP."""
PLAIN_PORT = 8080
PROXIED_PORT = 8081
INTERNAL_PORT = 8090
"""TCP ports of the pods: plain HTTP, HTTP behind the PROXY protocol, probes and metrics."""
ADMIN_PORT = 9901
THREADS = 2
"""Worker threads; each has its own connections to the services."""

_CONFIG = "/etc/podium/gateway"
_JWKS = "/etc/podium/jwks"
_DRAIN_SECONDS = 10
"""How long a pod that goes away still serves, telling clients to close."""

# Readiness fails at once and every answer closes its connection; the image has no HTTP client, but bash can speak.
_STOP = f"""\
exec 3<>/dev/tcp/127.0.0.1/{ADMIN_PORT}
printf 'POST /healthcheck/fail HTTP/1.1\\r\\nHost: admin\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n' >&3
read -r _ <&3
sleep {_DRAIN_SECONDS}
"""


def pods_service(inputs: Inputs, service: str) -> str:
    """Name of the headless Service by which the gateway sees each pod of a service."""
    return inputs.object_name(f"{service}-pods")


def settings(inputs: Inputs) -> envoy.Settings:
    """What Envoy's configuration depends on, from the spec.

    Host names are those of the pod's own namespace: one DNS query finds them.
    """
    spec = inputs.spec
    endpoints = {name: (pods_service(inputs, name), base.SERVICE_PORT) for name in envoy_routes.SERVICES}
    endpoints[ratelimit.COMPONENT] = (inputs.object_name(ratelimit.COMPONENT), ratelimit.GRPC_PORT)
    return envoy.Settings(
        endpoints=endpoints,
        jwks_path=f"{_JWKS}/jwks.json",
        fallbacks={name: (inputs.object_name(name), base.SERVICE_PORT) for name in envoy_routes.SERVICES},
        trusted_proxies=tuple(spec.gateway.trusted_proxies),
        otlp_endpoint=spec.observability.otlp_endpoint,
        trace_sample_ratio=spec.observability.trace_sample_ratio,
        memory_bytes=int(stateful.amount(stateful.memory_limit(spec.gateway.resources, "1Gi"))),
        plain_port=PLAIN_PORT,
        proxied_port=PROXIED_PORT,
        internal_port=INTERNAL_PORT,
        admin_port=ADMIN_PORT,
        node={"id": inputs.object_name(COMPONENT), "cluster": inputs.object_name(COMPONENT)},
    )


def build(inputs: Inputs) -> list[JSON]:
    """All objects of the gateway."""
    files = {"envoy.json": json.dumps(envoy.configuration(settings(inputs)), indent=1)}
    checksum = base.checksum([files, inputs.secret_checksums.get("jwks")])
    return [
        base.service_account(inputs, COMPONENT),
        base.config_map(inputs, COMPONENT, files),
        base.service(
            inputs,
            COMPONENT,
            [base.port("http", HTTP_PORT, PLAIN_PORT), base.port("http-proxied", PROXIED_PORT)],
        ),
        *(_pods_of(inputs, name) for name in envoy_routes.SERVICES),
        base.pod_disruption_budget(inputs, COMPONENT),
        _policy(inputs),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": base.metadata(inputs, COMPONENT),
            "spec": {
                "replicas": inputs.spec.gateway.replicas,
                "selector": {"matchLabels": base.selector(inputs.name, COMPONENT)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "progressDeadlineSeconds": 180,
                "revisionHistoryLimit": 3,
                "template": {
                    "metadata": {
                        "labels": base.labels(inputs.name, COMPONENT),
                        "annotations": {base.CONFIG_CHECKSUM: checksum},
                    },
                    "spec": _pod_spec(inputs),
                },
            },
        },
    ]


def _pods_of(inputs: Inputs, service: str) -> JSON:
    """Envoy balances over pods itself: it then knows which of them is sick, and spreads WebSockets evenly."""
    made = base.service(
        inputs,
        service,
        [base.port("http", base.SERVICE_PORT)],
        name=pods_service(inputs, service),
        clusterIP="None",
    )
    made["metadata"]["labels"] = base.labels(inputs.name, COMPONENT)
    return made


def _policy(inputs: Inputs) -> JSON:
    egress = [
        {"to": base.pods_of(inputs, *envoy_routes.SERVICES), "ports": base.tcp(base.SERVICE_PORT)},
        {"to": base.pods_of(inputs, ratelimit.COMPONENT), "ports": base.tcp(ratelimit.GRPC_PORT)},
    ]
    endpoint = inputs.spec.observability.otlp_endpoint
    if endpoint:
        target = urlsplit(endpoint)
        egress.append({"ports": base.tcp(target.port or (443 if target.scheme == "https" else 80))})
    return base.network_policy(
        inputs,
        COMPONENT,
        ingress=[
            {"ports": base.tcp(PLAIN_PORT, PROXIED_PORT)},
            {"from": base.operator_pod(inputs), "ports": base.tcp(INTERNAL_PORT)},
        ],
        egress=egress,
    )


def _pod_spec(inputs: Inputs) -> JSON:
    def probe(path: str, period: int, failures: int) -> JSON:
        return stateful.http_probe(path, "internal", period=period, failures=failures)

    return {
        "serviceAccountName": inputs.object_name(COMPONENT),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _DRAIN_SECONDS + 20,
        "securityContext": base.pod_security(fs_group=base.PODIUM_UID),
        "topologySpreadConstraints": base.spread(inputs.name, COMPONENT),
        "containers": [
            {
                "name": COMPONENT,
                "image": inputs.images.envoy,
                "imagePullPolicy": inputs.images.pull_policy,
                "command": [
                    "/usr/local/bin/envoy",
                    "--config-path",
                    f"{_CONFIG}/envoy.json",
                    "--disable-hot-restart",
                    "--concurrency",
                    str(THREADS),
                    "--log-level",
                    "warning",
                    "--drain-strategy",
                    "immediate",
                    "--drain-time-s",
                    str(_DRAIN_SECONDS),
                ],
                "ports": [
                    {"name": "http", "containerPort": PLAIN_PORT},
                    {"name": "http-proxied", "containerPort": PROXIED_PORT},
                    {"name": "internal", "containerPort": INTERNAL_PORT},
                ],
                "resources": inputs.spec.gateway.resources.as_kubernetes(),
                "securityContext": base.container_security(),
                "startupProbe": probe("/healthz/live", 1, 60),
                "livenessProbe": probe("/healthz/live", 10, 3),
                "readinessProbe": probe("/healthz/ready", 2, 2),
                "lifecycle": {"preStop": {"exec": {"command": ["/bin/bash", "-c", _STOP]}}},
                "volumeMounts": [
                    stateful.mount("config", _CONFIG, read_only=True),
                    stateful.mount("jwks", _JWKS, read_only=True),
                ],
            }
        ],
        "volumes": [
            stateful.config_volume("config", inputs.object_name(COMPONENT)),
            stateful.secret_volume("jwks", inputs.object_name("jwks"), ["jwks.json"]),
        ],
    }
