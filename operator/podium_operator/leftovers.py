"""Removes what a database that is going down writes after its Scoreboard is gone. Does I/O.

Everything else goes by owner references. Patroni alone makes objects that cannot have one from the start, and a pod
that is still ending may write one after the garbage collector passed.
"""

from __future__ import annotations

from collections.abc import Collection

from podium_operator.builders.base import APP
from podium_operator.cluster import CONFIG_MAP, Cluster
from podium_operator.workers import Key

PATRONI = {"app.kubernetes.io/name": APP, "app.kubernetes.io/component": "postgres"}
"""Labels of what Patroni keeps about its cluster."""


async def sweep(cluster: Cluster, namespace: str | None, existing: Collection[Key]) -> None:
    """Delete Patroni's objects that have no owner and whose Scoreboard is not among the existing ones."""
    for item in await cluster.find(CONFIG_MAP, namespace, PATRONI):
        meta = item["metadata"]
        key = (meta["namespace"], meta["labels"].get("app.kubernetes.io/instance", ""))
        if key not in existing and not meta.get("ownerReferences"):
            await cluster.delete(CONFIG_MAP, meta["namespace"], meta["name"], meta["uid"])
