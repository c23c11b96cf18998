"""Asks the scoreboard pods how many connections they hold. Does I/O; only ever calls pods of Scoreboards."""

from __future__ import annotations

import asyncio

import aiohttp

from podium_operator.builders.base import APP, CONNECTIONS_METRIC
from podium_operator.cluster import POD, Cluster
from podium_operator.scrape import SCRAPE_SECONDS, scrape
from podium_operator.spec import JSON

HOLDERS = {"app.kubernetes.io/name": APP, "app.kubernetes.io/component": "scoreboard"}
"""Labels of the pods that hold connections."""

AT_ONCE = 32
"""Pods that are asked at the same time."""


class Readings:
    """Reads the pods of a namespace whenever it is asked."""

    def __init__(self, cluster: Cluster, pod_port: int) -> None:
        self._cluster = cluster
        self._port = pod_port
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def connections(self, namespace: str, selector: str = "", name: str | None = None) -> list[tuple[str, int]]:
        """Name and connections of each pod that the label selector means, or of the one with the name.

        A pod that runs but does not answer is left out: the autoscaler then takes it as one it knows nothing of, and
        neither adds nor removes a pod for it. Raises Refused for a selector that the API server does not understand.
        """
        if name is None:
            pods = await self._cluster.find(POD, namespace, selector)
        else:
            pod = await self._cluster.get(POD, namespace, name)
            pods = [] if pod is None else [pod]
        holders = [pod for pod in pods if holds_connections(pod)]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS)) as session:
            read = await asyncio.gather(*(self._read(session, pod) for pod in holders))
        names = (pod["metadata"]["name"] for pod in holders)
        return [(name, value) for name, value in zip(names, read, strict=True) if value is not None]

    async def _read(self, session: aiohttp.ClientSession, pod: JSON) -> int | None:
        async with self._turns:
            value = (await scrape(session, pod, self._port)).get(CONNECTIONS_METRIC)
        return None if value is None else int(value)


def holds_connections(pod: JSON) -> bool:
    """Whether this is a running pod of a Scoreboard's scoreboard service; one that drains does not count any more."""
    meta, status = pod["metadata"], pod.get("status", {})
    return (
        HOLDERS.items() <= meta.get("labels", {}).items()
        and not meta.get("deletionTimestamp")
        and status.get("phase") == "Running"
        and bool(status.get("podIP"))
    )
