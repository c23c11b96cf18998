"""Questions about Kubernetes objects: is it as it should be, is it ready, who owns it. Pure."""

from __future__ import annotations

from typing import Any

from podium_operator.builders.base import checksum
from podium_operator.pods import brief
from podium_operator.spec import JSON
from podium_operator.status import Health

APPLIED = "podium.dev/applied"
"""Annotation: checksum of the object as the operator last applied it."""

Key = tuple[str, str, str]
"""apiVersion, kind and name of an object inside one namespace."""


def key_of(item: JSON) -> Key:
    """Identity of an object inside its namespace."""
    return item["apiVersion"], item["kind"], item["metadata"]["name"]


def owner_reference(scoreboard: JSON) -> JSON:
    """Reference that lets the garbage collector remove an object with its Scoreboard."""
    return {
        "apiVersion": scoreboard["apiVersion"],
        "kind": scoreboard["kind"],
        "name": scoreboard["metadata"]["name"],
        "uid": scoreboard["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def is_owned_by(item: JSON, scoreboard: JSON) -> bool:
    """Whether the object belongs to this very Scoreboard (not to a former one of the same name)."""
    references = item["metadata"].get("ownerReferences", [])
    return any(reference.get("uid") == scoreboard["metadata"]["uid"] for reference in references)


def prepared(item: JSON, scoreboard: JSON) -> JSON:
    """The object as it is applied: with its owner and the checksum of what is applied."""
    metadata = {**item["metadata"], "ownerReferences": [owner_reference(scoreboard)]}
    owned = {**item, "metadata": metadata}
    annotations = {**metadata.get("annotations", {}), APPLIED: checksum(owned)}
    return {**owned, "metadata": {**metadata, "annotations": annotations}}


def contains(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; maps may hold more, lists must have the same length."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            contains(live.get(name), value) or (name not in live and value in ({}, [], None))
            for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(contains(one, other) for one, other in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)


def in_shape(live: JSON | None, wanted: JSON) -> bool:
    """Whether the live object needs no apply: it was applied from the same text and nobody changed it since.

    A false alarm (the API server writes a quantity in another way) costs one apply that changes nothing.
    """
    return live is not None and not live["metadata"].get("deletionTimestamp") and contains(live, wanted)


def _progressing(deployment: JSON) -> JSON:
    found = [c for c in deployment.get("status", {}).get("conditions", []) if c.get("type") == "Progressing"]
    return found[0] if found else {}


def deployment_health(item: JSON, least: int = 0, *, outlasts: bool = False) -> Health:
    """Health of a Deployment that should have at least `least` pods.

    A pod that is told to go still answers for some seconds, by its old settings: the roll-out waits for it, too, unless
    the component `outlasts` that, as those do that only keep long connections open while they go.
    """
    status = item.get("status", {})
    wanted = item["spec"].get("replicas", 1)
    observed = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 1)
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    failed = observed and _progressing(item).get("reason") == "ProgressDeadlineExceeded"
    return Health(
        ready=min(status.get("readyReplicas", 0), max(wanted, least)),
        desired=max(wanted, least),
        rolled_out=(
            observed
            and updated >= wanted
            and total == updated
            and available >= max(1, least)
            and (outlasts or not status.get("terminatingReplicas"))
        ),
        problem=_progressing(item).get("message", "no progress") if failed else "",
        failed=failed,
    )


def replica_failure(item: JSON) -> str:
    """Why the pods of a Deployment cannot even be made, such as a quota; empty if they can."""
    for condition in item.get("status", {}).get("conditions", []):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return f"{condition.get('reason', 'FailedCreate')}: {brief(condition.get('message', ''))}"
    return ""


def stateful_set_health(item: JSON) -> Health:
    """Health of a StatefulSet."""
    status = item.get("status", {})
    wanted = item["spec"].get("replicas", 1)
    observed = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 1)
    same = status.get("updateRevision") == status.get("currentRevision") or status.get("updatedReplicas", 0) >= wanted
    ready = status.get("readyReplicas", 0)
    return Health(ready=ready, desired=wanted, rolled_out=observed and same and ready >= wanted)


def job_state(item: JSON) -> str:
    """`complete`, `failed` or `running`."""
    for condition in item.get("status", {}).get("conditions", []):
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            return "complete" if condition["type"] == "Complete" else "failed"
    return "running"


def has_dead_token(pod: JSON, account: JSON) -> bool:
    """Whether the pod holds a token of a former ServiceAccount of the name.

    Tokens are bound to the account's uid, and the kubelet renews them only after most of their hour: until then the pod
    would be refused by the API server. Times have whole seconds.
    """
    sources = (s for v in pod["spec"].get("volumes", []) for s in v.get("projected", {}).get("sources", []))
    mounts_token = any("serviceAccountToken" in source for source in sources)
    same = pod["spec"].get("serviceAccountName") == account["metadata"]["name"]
    older = pod["metadata"]["creationTimestamp"] < account["metadata"]["creationTimestamp"]
    return mounts_token and same and older and not pod["metadata"].get("deletionTimestamp")
