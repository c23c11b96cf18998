"""What is kept right besides applying: owners of what other controllers made, pods whose token is void. Does I/O."""

from __future__ import annotations

from collections.abc import Iterable

from podium_operator import recorder
from podium_operator.builders.base import selector
from podium_operator.cluster import CLAIM, CONFIG_MAP, ENDPOINTS, POD, Cluster
from podium_operator.objects import has_dead_token, owner_reference
from podium_operator.spec import JSON

MIRRORED = "endpoints.kubernetes.io/managed-by"
"""Label of Endpoints that Kubernetes itself derives from a Service."""


async def adopt(cluster: Cluster, scoreboard: JSON, *, volumes: bool) -> None:
    """Give an owner to what other controllers made for this Scoreboard, so that it goes with it.

    Volumes only if asked for (deletionPolicy Delete); what Patroni keeps about its cluster always, because it can be
    made anew from the volumes and would stop a cluster with new volumes from starting.
    """
    namespace, name = scoreboard["metadata"]["namespace"], scoreboard["metadata"]["name"]
    reference = owner_reference(scoreboard)
    for kind in (CLAIM, ENDPOINTS, CONFIG_MAP):
        owned = kind is not CLAIM or volumes
        labels = selector(name) if kind is CLAIM else selector(name, "postgres")
        for item in await cluster.find(kind, namespace, labels):
            if MIRRORED in item["metadata"].get("labels", {}):
                continue
            references = item["metadata"].get("ownerReferences", [])
            others = [each for each in references if each.get("uid") != reference["uid"]]
            if any(each.get("controller") for each in others):
                continue
            wanted = [*others, reference] if owned else others
            if wanted != references:
                patch = {"metadata": {"ownerReferences": wanted or None}}
                await cluster.merge_if_there(kind, namespace, item["metadata"]["name"], patch)


async def renew_tokens(cluster: Cluster, scoreboard: JSON, pods: Iterable[JSON], live: Iterable[JSON]) -> None:
    """Start pods again whose ServiceAccount was deleted and made anew: their tokens are refused by now."""
    accounts = [item for item in live if item["kind"] == "ServiceAccount"]
    for pod in pods:
        if any(has_dead_token(pod, account) for account in accounts):
            meta = pod["metadata"]
            await cluster.delete(POD, meta["namespace"], meta["name"], meta["uid"])
            note = f"pod {meta['name']} is started again: its ServiceAccount was made anew and its token is void"
            await recorder.record(cluster, scoreboard, "Warning", "TokenRenewed", note, "Restart")
