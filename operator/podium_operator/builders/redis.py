"""Redis Cluster: one StatefulSet, a Service of its own for each pod. Pure.

The cluster bus knows its peers by address, whatever host names are announced (redis/redis#11914), and pod addresses
change with every restart. So each pod has a Service, and announces that Service's address, which stays: after all pods
were deleted they find each other by what their `nodes.conf` remembers. `stores.redis` forms the cluster and heals it.
"""

from __future__ import annotations

from podium_operator.builders import base, stateful
from podium_operator.builders.base import Inputs
from podium_operator.spec import JSON, Redis

COMPONENT = "redis"
PORT = 6379
"""TCP port of clients."""
BUS_PORT = 16379
"""TCP port of the cluster bus."""
CLIENTS = ("scores", "scoreboard", "projector", "auth", "analytics", "ratelimit")
"""Components that use Redis."""

NODE_TIMEOUT_MS = 3000
"""Milliseconds after which a silent node counts as failed, and a replica takes over."""
MEMORY_SHARE = 0.6
"""Share of the container's memory for data; the rest is for replication buffers and the rewriting of the AOF."""

_SCRIPTS = "/etc/podium/redis"
_SECRET = "/etc/podium/secret/password"  # noqa: S105 - a path
_RUN = "/run/redis"

_START = f"""\
#!/bin/sh
# Announces the address of this pod's own Service and reads the password from its file, so neither is an argument.
set -eu
umask 077
until address=$(getent ahostsv4 "$POD_NAME" | while read -r first _; do echo "$first"; break; done) && [ -n "$address" ]
do
  echo "waiting for the address of Service $POD_NAME" >&2
  sleep 1
done
password=$(cat {_SECRET})
{{
  echo "include {_SCRIPTS}/redis.conf"
  echo "cluster-announce-ip $address"
  echo "requirepass \\"$password\\""
  echo "masterauth \\"$password\\""
  # A primary that lost its volume must not be copied by its replica, which holds the last data: an empty node gives
  # nothing away until the operator has found a place for it.
  members=$(grep -c -E '^[0-9a-f]{{40}} ' /data/nodes.conf 2>/dev/null || true)
  [ "${{members:-0}}" -gt 1 ] || echo "user default on ~* &* +@all -psync -sync \\">$password\\""
}} > {_RUN}/redis.conf
exec redis-server {_RUN}/redis.conf
"""

_LIVE = f"""\
#!/bin/sh
# Alive is who answers at all: loading a file or a broken cluster is no reason to be restarted.
REDISCLI_AUTH=$(cat {_SECRET}) timeout 4 redis-cli ping | grep -q -e PONG -e LOADING -e MASTERDOWN
"""

_READY = f"""\
#!/bin/sh
# Ready is who belongs to a working cluster and, as a replica, is in step: a rolling update waits for it.
export REDISCLI_AUTH="$(cat {_SECRET})"
state=$(printf 'CLUSTER INFO\\nINFO replication\\n' | timeout 4 redis-cli)
case "$state" in *cluster_state:ok*) ;; *) exit 1 ;; esac
case "$state" in *role:master*|*master_link_status:up*) exit 0 ;; esac
exit 1
"""

_STOP = f"""\
#!/bin/sh
# A primary hands its slots to a replica before it goes, which takes milliseconds instead of a failure detection.
export REDISCLI_AUTH="$(cat {_SECRET})"
role() {{ redis-cli role | head -n 1; }}
[ "$(role)" = master ] || exit 0
self=$(redis-cli cluster myid)
redis-cli cluster nodes | while read -r id address flags primary rest; do
  case "$flags" in *fail*) continue ;; esac
  [ "$primary" = "$self" ] || continue
  address=${{address%%@*}}
  redis-cli -h "${{address%:*}}" -p "${{address##*:}}" cluster failover && break
done
for _ in 1 2 3 4 5 6 7 8 9 10; do
  [ "$(role)" = master ] || exit 0
  sleep 0.5
done
"""


def pod_count(redis: Redis) -> int:
    """Number of pods: a primary and its replicas for each shard."""
    return redis.shards * (1 + redis.replicas_per_shard)


def pod_names(name: str, redis: Redis) -> list[str]:
    """Names of the pods of the Scoreboard `name`; each pod's Service has the same name."""
    return [f"{name}-{COMPONENT}-{ordinal}" for ordinal in range(pod_count(redis))]


def configuration(redis: Redis) -> str:
    """The part of redis.conf that all pods share and that holds no secret."""
    memory = stateful.mebibytes(stateful.memory_limit(redis.resources, "256Mi"), MEMORY_SHARE)
    settings: dict[str, object] = {
        "port": PORT,
        "bind": "* -::*",
        "protected-mode": "no",  # the password and the network policy protect it
        "dir": "/data",
        "tcp-keepalive": 60,
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": NODE_TIMEOUT_MS,
        # What Redis holds can be rebuilt, so an old copy that serves beats none ...
        "cluster-replica-validity-factor": 0,
        # ... and one lost shard must not stop the boards of the others.
        "cluster-require-full-coverage": "no",
        # The operator gives replicas their places; they do not wander.
        "cluster-allow-replica-migration": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "auto-aof-rewrite-min-size": "32mb",
        "maxmemory": f"{memory}mb",
        "maxmemory-policy": "noeviction",
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": 0,
        "repl-backlog-size": "8mb",
        "shutdown-timeout": 5,
    }
    return "".join(f"{key} {value}\n" for key, value in settings.items())


def build(inputs: Inputs) -> list[JSON]:
    """All objects of the Redis Cluster."""
    redis = inputs.spec.redis
    files = {
        "redis.conf": configuration(redis),
        "start.sh": _START,
        "live.sh": _LIVE,
        "ready.sh": _READY,
        "stop.sh": _STOP,
    }
    ports = [base.port("redis", PORT), base.port("bus", BUS_PORT)]
    bus = {"to": base.pods_of(inputs, COMPONENT), "ports": base.tcp(PORT, BUS_PORT)}
    return [
        base.service_account(inputs, COMPONENT),
        base.config_map(inputs, COMPONENT, files),
        base.service(inputs, COMPONENT, ports, clusterIP="None", publishNotReadyAddresses=True),
        *(
            base.service(
                inputs,
                COMPONENT,
                ports,
                name=pod,
                extra_selector={"statefulset.kubernetes.io/pod-name": pod},
                publishNotReadyAddresses=True,
            )
            for pod in pod_names(inputs.name, redis)
        ),
        base.pod_disruption_budget(inputs, COMPONENT),
        base.network_policy(
            inputs,
            COMPONENT,
            ingress=[
                {"from": base.pods_of(inputs, COMPONENT), "ports": base.tcp(PORT, BUS_PORT)},
                {"from": base.pods_of(inputs, *CLIENTS) + base.operator_pod(inputs), "ports": base.tcp(PORT)},
            ],
            egress=[bus],
        ),
        stateful.stateful_set(
            inputs,
            COMPONENT,
            replicas=pod_count(redis),
            service_name=inputs.object_name(COMPONENT),
            storage=redis.storage,
            pod_spec=_pod_spec(inputs),
            annotations={base.CONFIG_CHECKSUM: base.checksum(files)},
        ),
    ]


def _pod_spec(inputs: Inputs) -> JSON:
    def script(name: str) -> list[str]:
        return ["/bin/sh", f"{_SCRIPTS}/{name}.sh"]

    return {
        "serviceAccountName": inputs.object_name(COMPONENT),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": base.pod_security(fs_group=base.PODIUM_UID),
        "topologySpreadConstraints": base.spread(inputs.name, COMPONENT),
        "containers": [
            {
                "name": COMPONENT,
                "image": inputs.images.redis,
                "imagePullPolicy": inputs.images.pull_policy,
                "command": script("start"),
                "env": [stateful.field_env("POD_NAME", "metadata.name")],
                "ports": [{"name": "redis", "containerPort": PORT}, {"name": "bus", "containerPort": BUS_PORT}],
                "resources": inputs.spec.redis.resources.as_kubernetes(),
                "securityContext": base.container_security(),
                "startupProbe": stateful.exec_probe(script("live"), period=2, failures=150),
                "livenessProbe": stateful.exec_probe(script("live"), period=20, failures=3),
                "readinessProbe": stateful.exec_probe(script("ready"), period=5, failures=2),
                "lifecycle": {"preStop": {"exec": {"command": script("stop")}}},
                "volumeMounts": [
                    stateful.mount("data", "/data"),
                    stateful.mount("run", _RUN),
                    stateful.mount("config", _SCRIPTS, read_only=True),
                    stateful.mount("secret", _SECRET.rpartition("/")[0], read_only=True),
                ],
            }
        ],
        "volumes": [
            stateful.scratch_volume("run", "1Mi", in_memory=True),
            stateful.config_volume("config", inputs.object_name(COMPONENT)),
            stateful.secret_volume("secret", inputs.object_name(COMPONENT), ["password"]),
        ],
    }
