"""One namespace: the user, the operator, and the controllers and nodes that the test plays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from podium_operator import secret_data
from podium_operator.cluster import (
    DEPLOYMENT,
    JOB,
    OWNED,
    POD,
    REVISION,
    SCOREBOARD,
    SECRET,
    STATEFUL_SET,
    Cluster,
    Kind,
)
from podium_operator.objects import Key, key_of
from podium_operator.reconcile import reconcile
from podium_operator.settings import OperatorSettings
from podium_operator.spec import JSON, ScoreboardSpec
from podium_operator.status import Health

USER = "user"
NAME = "arcade"
CLIENT = {"name": "game", "secretRef": {"name": "game-secret"}, "scopes": ["scores:write"]}
EVENTS = Kind("events.k8s.io/v1", "Event", "events")


@dataclass
class World:
    """What a test does and sees."""

    admin: Cluster
    operator: Cluster
    settings: OperatorSettings
    namespace: str
    stores_work: bool = True
    frozen: set[str] = field(default_factory=set)
    """Deployments (by component) whose pods do not come up."""

    async def write(self, spec: JSON | None = None, name: str = NAME) -> JSON:
        """The user applies a Scoreboard."""
        item = {
            "apiVersion": SCOREBOARD.api_version,
            "kind": SCOREBOARD.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec or {},
        }
        return await self.admin.apply(SCOREBOARD, item, manager=USER)

    async def read(self) -> JSON:
        """The Scoreboard as it is."""
        item = await self.admin.get(SCOREBOARD, self.namespace, NAME)
        assert item is not None
        return item

    async def conditions(self) -> dict[str, JSON]:
        """Its conditions by type."""
        return {c["type"]: c for c in (await self.read())["status"]["conditions"]}

    async def write_secret(self, name: str = "game-secret", **data: str) -> None:
        """The user makes a Secret."""
        body: JSON = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace},
            "data": secret_data.encode(data),
        }
        await self.admin.apply(SECRET, body, manager=USER)

    async def secret(self, suffix: str) -> JSON:
        """A Secret that the operator made."""
        item = await self.admin.get(SECRET, self.namespace, f"{NAME}-{suffix}")
        assert item is not None
        return item

    async def _stores(
        self, _: Cluster, __: str, ___: str, ____: ScoreboardSpec, live: dict[Key, JSON], _____: str
    ) -> dict[str, Health]:
        """The stores as nodes would run them; there are none here."""
        ready = 3 if self.stores_work else 0
        names = [key[2].removeprefix(f"{NAME}-") for key in live if key[1] == STATEFUL_SET.kind]
        return {name: Health(ready, 3, self.stores_work, serving=self.stores_work) for name in names}

    async def step(self) -> float | None:
        """One reconcile."""
        return await reconcile(self.operator, self.settings, self.namespace, NAME, look_at_stores=self._stores)

    async def settle(self, steps: int = 12) -> None:
        """Reconcile, and let controllers and nodes do their work, until nothing is left to do."""
        for _ in range(steps):
            if await self.step() is None:
                return
            await self.work()

    async def work(self) -> None:
        """What controllers and nodes would do: Jobs end, Deployments roll out."""
        for job in await self.admin.find(JOB, self.namespace):
            if not job.get("status", {}).get("conditions"):
                await self._finish(job)
        for item in await self.admin.find(DEPLOYMENT, self.namespace):
            component = item["metadata"]["labels"]["app.kubernetes.io/component"]
            if component not in self.frozen:
                count = item["spec"]["replicas"]
                numbers = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
                await self.deployment_status(item, conditions=[], **dict.fromkeys(numbers, count))

    async def _finish(self, job: JSON) -> None:
        moment = "2026-01-01T00:00:00Z"
        done = [{"type": kind, "status": "True", "lastTransitionTime": moment, "lastProbeTime": moment}
                for kind in ("SuccessCriteriaMet", "Complete")]  # fmt: skip
        status: JSON = {"conditions": done, "startTime": moment, "completionTime": moment, "succeeded": 1}
        await self.admin.merge(JOB, self.namespace, job["metadata"]["name"], {"status": status}, "status", USER)

    async def pod(self, owner: JSON, status: JSON, suffix: str = "x") -> None:
        """A pod of a Job or Deployment, or a new status of it, as its controller and a node would write them."""
        meta, template = owner["metadata"], owner["spec"]["template"]
        name = f"{meta['name']}-{suffix}"
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
        item = {
            "apiVersion": POD.api_version,
            "kind": POD.kind,
            "metadata": {"name": name, "labels": template["metadata"]["labels"], "ownerReferences": [reference]},
            "spec": template["spec"],
        }
        if await self.admin.get(POD, self.namespace, name) is None:
            await self.admin.create(POD, self.namespace, item)
        await self.admin.merge(POD, self.namespace, name, {"status": status}, "status", USER)

    async def job(self) -> JSON:
        """The Job of the newest migration."""
        jobs = await self.admin.find(JOB, self.namespace)
        return max(jobs, key=lambda item: int(item["metadata"]["resourceVersion"]))

    async def deployment_status(self, item: JSON, **status: Any) -> None:
        """Write the status of a Deployment as its controller would."""
        status["observedGeneration"] = item["metadata"]["generation"]
        name = item["metadata"]["name"]
        await self.admin.merge(DEPLOYMENT, self.namespace, name, {"status": status}, "status", USER)

    async def deployment(self, component: str) -> JSON:
        """The Deployment of a component."""
        item = await self.admin.get(DEPLOYMENT, self.namespace, f"{NAME}-{component}")
        assert item is not None
        return item

    async def objects(self) -> dict[Key, JSON]:
        """Everything that the operator made from builders."""
        found: dict[Key, JSON] = {}
        for kind in OWNED:
            for item in await self.admin.find(
                kind, self.namespace, {"app.kubernetes.io/managed-by": "podium-operator"}
            ):
                found[key_of(item)] = item
        return found

    async def versions(self) -> dict[Key, str]:
        """resourceVersion of all that could have been written; equal means that nothing was."""
        found = {key: item["metadata"]["resourceVersion"] for key, item in (await self.objects()).items()}
        for kind in (REVISION, SECRET, SCOREBOARD):
            found |= {key_of(i): i["metadata"]["resourceVersion"] for i in await self.admin.find(kind, self.namespace)}
        return found

    async def reasons(self) -> set[str]:
        """Reasons of the Kubernetes events so far."""
        return {item["reason"] for item in await self.admin.find(EVENTS, self.namespace)}
