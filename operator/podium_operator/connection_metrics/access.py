"""May this user ask this? The API server's own authorisation decides (SubjectAccessReview). Does I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from podium_operator.cluster import Cluster, Kind
from podium_operator.connection_metrics.callers import User
from podium_operator.spec import JSON

REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews")

KEPT_SECONDS = 10.0
"""A decision is good for so long, as in Kubernetes' own servers."""

KEPT_DECISIONS = 1000
"""More users and questions than these are not remembered."""


@dataclass(frozen=True)
class Question:
    """What is asked for: a path, or a metric of pods of a namespace."""

    path: str
    version: str = ""
    namespace: str = ""
    name: str = ""
    metric: str = ""

    def attributes(self, group: str) -> JSON:
        """The part of the review that describes it; reading is all there is."""
        if not self.metric:
            return {"nonResourceAttributes": {"path": self.path, "verb": "get"}}
        return {
            "resourceAttributes": {
                "group": group,
                "version": self.version,
                "namespace": self.namespace,
                "resource": "pods",
                "subresource": self.metric,
                "name": self.name,
                "verb": "get",
            }
        }


class Access:
    """Asks the API server, and remembers the answers for a moment."""

    def __init__(self, cluster: Cluster, group: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._group = group
        self._clock = clock
        self._decided: dict[tuple[User, Question], tuple[float, bool]] = {}

    async def allows(self, user: User, question: Question) -> bool:
        """Whether the user may. Raises Refused or OSError if that cannot be known."""
        now = self._clock()
        until, allowed = self._decided.get((user, question), (now, False))
        if now < until:
            return allowed
        spec: JSON = {"user": user.name, "groups": list(user.groups), **question.attributes(self._group)}
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra}
        answer = await self._cluster.create(
            REVIEW, None, {"apiVersion": REVIEW.api_version, "kind": REVIEW.kind, "spec": spec}
        )
        allowed = bool(answer.get("status", {}).get("allowed"))
        if len(self._decided) >= KEPT_DECISIONS:
            self._decided.clear()
        self._decided[(user, question)] = (now + KEPT_SECONDS, allowed)
        return allowed
