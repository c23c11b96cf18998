"""The rate-limit service (envoyproxy/ratelimit) that Envoy asks; it counts in the Redis Cluster. Pure.

Its windows are fixed minutes: it keeps floods away. The exact limit of a user's updates is the scores service's.
"""

from __future__ import annotations

import yaml

from podium_operator.builders import base, config, redis, services, stateful
from podium_operator.builders.base import Inputs
from podium_operator.spec import JSON, Security

COMPONENT = "ratelimit"
GRPC_PORT = 8081
"""TCP port that Envoy asks."""
HTTP_PORT = 8080
"""TCP port of /healthcheck."""
METRICS_PORT = 9090
"""TCP port of /metrics."""
REPLICAS = 2

DOMAIN = "podium"
"""Name space of the descriptors below, in the gateway's configuration too."""
UPDATES_PER_USER_PER_MINUTE = 120
"""Score updates of one user that pass the gateway in a minute, refused ones included (docs/api.md)."""

LIMIT_HEADER = "x-podium-limit"
REMAINING_HEADER = "x-podium-limit-remaining"
RESET_HEADER = "x-podium-limit-reset"
"""Response headers by which the service tells the gateway the limit, what is left, and the seconds until it resets."""

_CONFIG = "/etc/podium"


def limits(security: Security) -> JSON:
    """The service's configuration: requests in a minute by class and client address, or by class and user."""

    def rule(group: str, key: str, per_minute: int) -> JSON:
        limit = {"unit": "minute", "requests_per_unit": per_minute}
        return {"key": "class", "value": group, "descriptors": [{"key": key, "rate_limit": limit}]}

    return {
        "domain": DOMAIN,
        "descriptors": [
            rule("read", "masked_remote_address", security.reads_per_ip_per_minute),
            rule("request", "masked_remote_address", security.requests_per_ip_per_minute),
            rule("update", "user", UPDATES_PER_USER_PER_MINUTE),
        ],
    }


def environment(redis_nodes: str, config_root: str = _CONFIG) -> dict[str, str]:
    """Settings of the service but the password; `redis_nodes` are `host:port` of some nodes, with commas."""
    return {
        "BACKEND_TYPE": "redis",
        "REDIS_TYPE": "cluster",
        "REDIS_SOCKET_TYPE": "tcp",
        "REDIS_URL": redis_nodes,
        "GRPC_PORT": str(GRPC_PORT),
        "PORT": str(HTTP_PORT),
        "DEBUG_HOST": "127.0.0.1",
        "RUNTIME_ROOT": config_root,
        "RUNTIME_SUBDIRECTORY": COMPONENT,
        # The files are links that the kubelet swaps; a change rolls the pods instead.
        "RUNTIME_WATCH_ROOT": "false",
        "RUNTIME_IGNOREDOTFILES": "true",
        "USE_STATSD": "false",
        "USE_PROMETHEUS": "true",
        "PROMETHEUS_ADDR": f":{METRICS_PORT}",
        "LOG_LEVEL": "warn",
        "LOG_FORMAT": "json",
        # Whoever is over the limit is known without asking Redis again.
        "LOCAL_CACHE_SIZE_IN_BYTES": str(2 * 2**20),
        "LIMIT_RESPONSE_HEADERS_ENABLED": "true",
        "LIMIT_LIMIT_HEADER": LIMIT_HEADER,
        "LIMIT_REMAINING_HEADER": REMAINING_HEADER,
        "LIMIT_RESET_HEADER": RESET_HEADER,
    }


def build(inputs: Inputs) -> list[JSON]:
    """All objects of the rate-limit service."""
    files = {"limits.yaml": yaml.safe_dump(limits(inputs.spec.security), sort_keys=False)}
    ports = [base.port("grpc", GRPC_PORT), base.port("http", HTTP_PORT), base.port("metrics", METRICS_PORT)]
    return [
        base.service_account(inputs, COMPONENT),
        base.config_map(inputs, COMPONENT, files),
        # Headless, so that each gateway pod spreads its calls over all pods: gRPC connections are long-lived.
        base.service(inputs, COMPONENT, ports, clusterIP="None"),
        base.pod_disruption_budget(inputs, COMPONENT),
        base.network_policy(
            inputs,
            COMPONENT,
            ingress=[
                {"from": base.pods_of(inputs, "gateway"), "ports": base.tcp(GRPC_PORT)},
                {"from": base.operator_pod(inputs), "ports": base.tcp(METRICS_PORT)},
            ],
            egress=services.store_egress(inputs, (redis.COMPONENT,)),
        ),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": base.metadata(inputs, COMPONENT),
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": base.selector(inputs.name, COMPONENT)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "progressDeadlineSeconds": 180,
                "revisionHistoryLimit": 3,
                "template": {
                    "metadata": {
                        "labels": base.labels(inputs.name, COMPONENT),
                        "annotations": {base.CONFIG_CHECKSUM: _checksum(inputs, files)},
                    },
                    "spec": _pod_spec(inputs),
                },
            },
        },
    ]


def _checksum(inputs: Inputs, files: JSON) -> str:
    """Changes with all that a pod reads at its start."""
    external = inputs.external.get(redis.COMPONENT)
    return base.checksum([files, external.checksum] if external else files)


def _secret_environment(inputs: Inputs) -> list[JSON]:
    """What it reads from nowhere but the environment."""
    secret = config.secret_name(inputs, redis.COMPONENT)
    external = inputs.external.get(redis.COMPONENT)
    if external is None:
        return [stateful.secret_env("REDIS_AUTH", secret, "password")]
    variables = {"nodes": "REDIS_URL", "password": "REDIS_AUTH"}
    return [stateful.secret_env(variables[key], secret, key) for key in external.keys]


def _pod_spec(inputs: Inputs) -> JSON:
    nodes = f"{inputs.object_name(redis.COMPONENT)}:{redis.PORT}"
    return {
        "serviceAccountName": inputs.object_name(COMPONENT),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 20,
        "securityContext": base.pod_security(),
        "topologySpreadConstraints": base.spread(inputs.name, COMPONENT),
        "containers": [
            {
                "name": COMPONENT,
                "image": inputs.images.ratelimit,
                "imagePullPolicy": inputs.images.pull_policy,
                "command": ["/usr/local/bin/ratelimit"],
                "env": [
                    *(
                        {"name": key, "value": value}
                        for key, value in environment(nodes).items()
                        if key != "REDIS_URL" or not inputs.external
                    ),
                    *_secret_environment(inputs),
                    {"name": "GOMEMLIMIT", "value": "48MiB"},
                ],
                "ports": [
                    {"name": "grpc", "containerPort": GRPC_PORT},
                    {"name": "http", "containerPort": HTTP_PORT},
                    {"name": "metrics", "containerPort": METRICS_PORT},
                ],
                "resources": {"requests": {"cpu": "20m", "memory": "24Mi"}, "limits": {"memory": "96Mi"}},
                "securityContext": base.container_security(),
                "startupProbe": stateful.http_probe("/healthcheck", "http", period=1, failures=60),
                "readinessProbe": stateful.http_probe("/healthcheck", "http", period=5, failures=2),
                # Without Redis it is not healthy, and a restart would not help: only a dead process is restarted.
                "livenessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 15, "failureThreshold": 3},
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                "volumeMounts": [stateful.mount("config", f"{_CONFIG}/{COMPONENT}/config", read_only=True)],
            }
        ],
        "volumes": [stateful.config_volume("config", inputs.object_name(COMPONENT))],
    }
