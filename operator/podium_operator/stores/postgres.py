"""How PostgreSQL is under Patroni, read from what Patroni keeps in Kubernetes, and the settings all members share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from podium_operator.builders import base, patroni
from podium_operator.cluster import CONFIG_MAP, POD, Cluster, Conflict, Refused
from podium_operator.spec import JSON, Postgres
from podium_operator.stores.status import StoreStatus

FIELD_MANAGER = "podium-operator-patroni"
"""Not the manager of the operator's own objects: this ConfigMap belongs to Patroni."""


@dataclass(frozen=True)
class Members:
    """What Patroni says: who leads, who is synchronous, and the state of each member by pod name."""

    leader: str
    synchronous: tuple[str, ...]
    states: Mapping[str, str]


def judge(members: Members, postgres: Postgres) -> StoreStatus:
    """The status of a cluster that should be as `postgres` says. Pure."""
    healthy = {"running", "streaming"}
    if members.states.get(members.leader) not in healthy:
        return StoreStatus(False, "no primary; Patroni is electing one", serving=False)
    away = [
        f"{name} is {state or 'starting'}" for name, state in sorted(members.states.items()) if state not in healthy
    ]
    missing = postgres.instances - len(members.states)
    if missing > 0:
        away.append(f"{missing} of {postgres.instances} instances missing")
    if postgres.synchronous != "Off" and postgres.instances > 1 and not members.synchronous:
        if postgres.synchronous == "Strict":
            reason = "; ".join(["no synchronous replica, so no writes", *away])
            return StoreStatus(False, reason, serving=False)
        away.insert(0, f"{members.leader} runs without a synchronous replica: losing it now could lose commits")
    if away:
        return StoreStatus(False, "; ".join(away), serving=True)
    replicas = ", ".join(members.synchronous) or "none"
    return StoreStatus(True, f"primary {members.leader}, synchronous replica {replicas}", serving=True)


def merged(current: JSON, wanted: JSON) -> JSON:
    """`current` with everything of `wanted`, part by part; what only `current` has stays."""
    result = dict(current)
    for key, value in wanted.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


async def cluster_status(*, name: str, namespace: str, api: ApiClient, spec: Postgres | None = None) -> StoreStatus:
    """Return how the cluster is; with `spec`, also bring the settings that all members share to what it says.

    Never raises for an API server or a cluster that does not answer.
    """
    cluster, scope = Cluster(api), f"{name}-postgres"
    try:
        configuration = await _annotations(cluster, namespace, f"{scope}-config")
        leader = await _annotations(cluster, namespace, f"{scope}-leader")
        sync = await _annotations(cluster, namespace, f"{scope}-sync")
        pods = await cluster.find(POD, namespace, base.selector(name, "postgres"))
        states = {pod["metadata"]["name"]: _state(pod) for pod in pods}
        current = json.loads(configuration.get("config") or "{}")
        if spec is not None and current:
            await _share(cluster, namespace, f"{scope}-config", current, patroni.dynamic_configuration(spec))
    except (ApiException, Conflict, Refused, OSError, TimeoutError, ValueError) as problem:
        return StoreStatus(False, f"PostgreSQL cannot be looked at: {type(problem).__name__}", serving=False)
    standby = sync.get("sync_standby") if sync.get("leader") == leader.get("leader") else None
    members = Members(leader.get("leader", ""), tuple(filter(None, (standby or "").split(","))), states)
    return judge(members, spec or _spec_of(current, len(states)))


def _spec_of(configuration: JSON, instances: int) -> Postgres:
    strict = "Strict" if configuration.get("synchronous_mode_strict") else "Preferred"
    mode = strict if configuration.get("synchronous_mode") else "Off"
    return Postgres.model_validate({"instances": max(1, instances), "synchronous": mode})


async def _share(cluster: Cluster, namespace: str, config_map: str, current: JSON, wanted: JSON) -> None:
    """Patroni watches this annotation and lets every member follow it."""
    new = merged(current, wanted)
    if new != current:
        patch = {"metadata": {"annotations": {"config": json.dumps(new, separators=(",", ":"))}}}
        await cluster.merge(CONFIG_MAP, namespace, config_map, patch, manager=FIELD_MANAGER)


async def _annotations(cluster: Cluster, namespace: str, config_map: str) -> dict[str, str]:
    item = await cluster.get(CONFIG_MAP, namespace, config_map)
    return dict((item or {}).get("metadata", {}).get("annotations") or {})


def _state(pod: JSON) -> str:
    """State of a member as it says itself; empty if it has not said anything yet."""
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
    if conditions.get("Ready") != "True" or pod["metadata"].get("deletionTimestamp"):
        return "not ready"
    return str(json.loads((pod["metadata"].get("annotations") or {}).get("status", "{}")).get("state", ""))
