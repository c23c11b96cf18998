"""Looks at what runs: stores, Deployments, numbers of players and connections. Does I/O; changes only stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

import aiohttp

from podium_operator.builders import services
from podium_operator.builders.base import CONNECTIONS_METRIC, External, selector
from podium_operator.cluster import DEPLOYMENT, POD, SERVICE, STATEFUL_SET, Cluster
from podium_operator.objects import Key, deployment_health, stateful_set_health
from podium_operator.scrape import PLAYERS_METRIC, SCRAPE_SECONDS, scrape
from podium_operator.spec import JSON, ScoreboardSpec
from podium_operator.status import Health
from podium_operator.stores import external, nats, postgres, redis
from podium_operator.stores.status import StoreStatus

log = logging.getLogger(__name__)

LONG_CONNECTIONS = frozenset({"scoreboard", "gateway"})
"""Components whose leaving pods get no new requests after a moment, but end open connections at leisure."""

ABSENT = Health(ready=0, desired=1, rolled_out=False, problem="not there yet", serving=False)


async def stores(
    cluster: Cluster, name: str, namespace: str, spec: ScoreboardSpec, live: dict[Key, JSON], redis_password: str
) -> dict[str, Health]:
    """Health of the operator's own stores; forms and heals the Redis Cluster on the way."""

    async def one(component: str) -> Health:
        item = live.get((STATEFUL_SET.api_version, STATEFUL_SET.kind, f"{name}-{component}"))
        if item is None:
            return ABSENT
        health = stateful_set_health(item)
        # Redis pods become ready only once the cluster is formed, which is done below.
        if not health.ready and component != "redis":
            return replace(health, serving=False)
        if component == "redis":
            addresses = _redis_addresses(name, spec, live)
            seen = await redis.ensure_redis_cluster(
                name=name, namespace=namespace, spec=spec.redis, password=redis_password, pod_addresses=addresses
            )
        elif component == "postgres":
            seen = await postgres.cluster_status(name=name, namespace=namespace, api=cluster.api, spec=spec.postgres)
        else:
            seen = await nats.cluster_status(name=name, namespace=namespace, spec=spec.nats)
        return _with_store(health, seen)

    names = [name for name in ("postgres", "redis", "nats") if getattr(spec, name).external is None]
    return dict(zip(names, await asyncio.gather(*(one(component) for component in names)), strict=True))


async def external_stores(described: Mapping[str, External]) -> dict[str, Health]:
    """Health of the stores that others run: they have no pods here, and are reached or not."""

    async def one(store: str) -> Health:
        seen = await external.status(store, described[store])
        problem = "" if seen.ok else seen.message
        return Health(0, 0, True, problem, serving=seen.serving, external=True)

    return dict(zip(described, await asyncio.gather(*(one(store) for store in described)), strict=True))


def _with_store(health: Health, seen: StoreStatus) -> Health:
    return replace(health, serving=seen.ok or seen.serving, problem="" if seen.ok else seen.message)


def _redis_addresses(name: str, spec: ScoreboardSpec, live: dict[Key, JSON]) -> dict[str, str]:
    """Address of the Service of each Redis pod."""
    found = {}
    for index in range(spec.redis.shards * (1 + spec.redis.replicas_per_shard)):
        pod = f"{name}-redis-{index}"
        item = live.get((SERVICE.api_version, SERVICE.kind, pod))
        if item is not None and item["spec"].get("clusterIP"):
            found[pod] = item["spec"]["clusterIP"]
    return found


def workloads(name: str, spec: ScoreboardSpec, live: dict[Key, JSON]) -> dict[str, Health]:
    """Health of everything that is a Deployment."""
    least = {role.name: getattr(spec.services, role.name).min_replicas for role in services.ROLES}
    result = {}
    for component in (*least, "ratelimit", "gateway"):
        item = live.get((DEPLOYMENT.api_version, DEPLOYMENT.kind, f"{name}-{component}"))
        outlasts = component in LONG_CONNECTIONS
        result[component] = (
            deployment_health(item, least.get(component, 0), outlasts=outlasts) if item is not None else ABSENT
        )
    return result


async def counts(cluster: Cluster, name: str, namespace: str) -> dict[str, int]:
    """Players and connections as the pods' metrics say; a number that nobody tells is left out."""
    pods = await cluster.find(POD, namespace, selector(name))
    chosen = [pod for pod in pods if _component(pod) in ("scoreboard", "analytics") and _ready(pod)]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS)) as session:
        scraped = await asyncio.gather(*(scrape(session, pod) for pod in chosen))
    players = [numbers[PLAYERS_METRIC] for numbers in scraped if PLAYERS_METRIC in numbers]
    connections = [numbers[CONNECTIONS_METRIC] for numbers in scraped if CONNECTIONS_METRIC in numbers]
    result = {}
    if players:
        result["players"] = int(max(players))
    if connections:
        result["connections"] = int(sum(connections))
    return result


def _component(pod: JSON) -> str:
    return str(pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _ready(pod: JSON) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
