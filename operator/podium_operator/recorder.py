"""Kubernetes events about a Scoreboard, for `kubectl describe`. Does I/O."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from podium_operator.builders.base import MANAGER
from podium_operator.cluster import EVENT, Cluster, Conflict, Refused
from podium_operator.spec import JSON
from podium_operator.status import Condition

log = logging.getLogger(__name__)

NOTE_LIMIT = 1000
"""Characters of a note; the API server refuses more than 1024."""

WATCHED_CONDITIONS = ("Ready", "Degraded")
"""Conditions whose change is an event."""


async def record(
    cluster: Cluster, scoreboard: JSON, kind: Literal["Normal", "Warning"], reason: str, note: str, action: str
) -> None:
    """Write one event. An event that cannot be written is logged: it must not hold up the reconcile."""
    meta = scoreboard["metadata"]
    item = {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{meta['name']}.{secrets.token_hex(8)}", "namespace": meta["namespace"]},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"podium.dev/{MANAGER}",
        "reportingInstance": MANAGER,
        "type": kind,
        "reason": reason,
        "action": action,
        "note": note[:NOTE_LIMIT],
        "regarding": {
            "apiVersion": scoreboard["apiVersion"],
            "kind": scoreboard["kind"],
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        },
    }
    try:
        await cluster.create(EVENT, meta["namespace"], item)
    except (Refused, Conflict) as error:
        log.warning("event %s of %s/%s was not recorded: %s", reason, meta["namespace"], meta["name"], error)


async def record_changes(cluster: Cluster, scoreboard: JSON, new: Iterable[Condition], old: Iterable[JSON]) -> None:
    """An event for each watched condition that holds now and did not before, or the other way round."""
    before = {item.get("type"): item for item in old}
    for condition in new:
        if condition.type not in WATCHED_CONDITIONS:
            continue
        previous = before.get(condition.type, {})
        if previous.get("status") == condition.status and previous.get("reason") == condition.reason:
            continue
        if condition.type == "Degraded" and condition.status == "False" and previous.get("status") != "True":
            continue
        good = (condition.status == "True") == (condition.type == "Ready")
        calm = good or condition.reason in ("RollingOut", "Paused")
        reason = condition.reason if condition.reason != "AsExpected" else "Recovered"
        note = condition.message or f"{condition.type} is {condition.status}"
        await record(cluster, scoreboard, "Normal" if calm else "Warning", reason, note, condition.type)
