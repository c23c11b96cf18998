"""Level-triggered reconcile: compares what is with what should be, and takes the next steps towards it. Does I/O.

One call looks at everything and never relies on what woke it, so a missed event, a restart of the operator or two
calls in a row change nothing. Order: Secrets → stores → migration → application and gateway; what is rendered no
longer goes last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from podium_operator import (
    action_schemas,
    credentials,
    migration,
    observe,
    pods,
    recorder,
    revisions,
    schedules,
    status,
    upkeep,
)
from podium_operator.builders import config, services
from podium_operator.builders.base import MANAGER, Inputs, selector
from podium_operator.cluster import (
    DEPLOYMENT,
    JOB,
    NOT_FOUND,
    OWNED,
    POD,
    REVISION,
    SCOREBOARD,
    Cluster,
    Conflict,
    Refused,
    kind_of,
)
from podium_operator.components import BASE, MIGRATION, STORES, Rendered, render
from podium_operator.objects import (
    Key,
    contains,
    in_shape,
    is_owned_by,
    job_state,
    key_of,
    prepared,
    replica_failure,
)
from podium_operator.revisions import Revision
from podium_operator.settings import OperatorSettings
from podium_operator.spec import JSON, ScoreboardSpec

log = logging.getLogger(__name__)

PARALLEL = 8
"""Objects that are applied at the same time."""

SOON_SECONDS = 2.0
"""A roll-out is looked at again after this: a store does not tell when it is formed."""

UNPROCESSABLE = 422
"""HTTP status of an object that would not be valid."""

INITIAL_SCALE = "podium-operator-scale"
"""Field manager that raises a new Deployment to its least number of pods; afterwards its autoscaler owns the field."""


LookAtStores = Callable[[Cluster, str, str, ScoreboardSpec, dict[Key, JSON], str], Awaitable[dict[str, status.Health]]]
"""Health of the stores, see `observe.stores`."""


async def reconcile(
    cluster: Cluster,
    settings: OperatorSettings,
    namespace: str,
    name: str,
    look_at_stores: LookAtStores = observe.stores,
) -> float | None:
    """Bring one Scoreboard closer to its spec.

    Returns seconds until it should be looked at again, or None for no hurry.

    Raises Refused or Conflict if the API server did not accept a step; the status says so and a later call tries again.
    """
    scoreboard = await cluster.get(SCOREBOARD, namespace, name)
    if scoreboard is None or scoreboard["metadata"].get("deletionTimestamp"):
        return None  # owner references do the rest; there is no finalizer that could stick
    try:
        spec = ScoreboardSpec.model_validate(scoreboard["spec"])
    except ValidationError as error:
        text = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        await _fail(cluster, scoreboard, invalid=text)
        return None
    try:
        return await _Pass(cluster, settings, scoreboard, spec, look_at_stores).run()
    except _Invalid as error:
        await _fail(cluster, scoreboard, invalid=str(error))
        return None
    except (Refused, Conflict) as error:
        await _fail(cluster, scoreboard, error=f"the API server refused a step: {error}")
        raise


class _Invalid(Exception):
    """The spec cannot work, and there is no earlier one to go on with; the message names the fields."""


async def _fail(cluster: Cluster, scoreboard: JSON, error: str = "", invalid: str = "") -> None:
    """Say in the status that nothing could be applied, leaving the rest of it as it is."""
    seen = status.Seen(scoreboard["metadata"]["generation"], {}, False, False, error=error, invalid=invalid)
    old = scoreboard.get("status", {}).get("conditions", [])
    fresh = [c for c in status.conditions(seen) if c.type != "Progressing" or invalid]
    kept = [item for item in old if item["type"] not in {c.type for c in fresh}]
    await recorder.record_changes(cluster, scoreboard, fresh, old)
    await _write_status(cluster, scoreboard, {"conditions": [*status.merged(fresh, old), *kept]})


async def _write_status(cluster: Cluster, scoreboard: JSON, new: JSON) -> None:
    old = scoreboard.get("status", {})
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    if changed:
        meta = scoreboard["metadata"]
        await cluster.merge_if_there(SCOREBOARD, meta["namespace"], meta["name"], {"status": changed}, "status")


@dataclass
class _Chosen:
    """Which revision is applied, and why."""

    revision: Revision
    is_target: bool
    rollback: str = ""


def _going_on(known: list[Revision], current: Revision) -> _Chosen:
    """What goes on while a change is held back: what runs, which is not a revision that was given up."""
    good = revisions.last_good(known, besides=current) if current.failed else None
    return _Chosen(good or current, is_target=False, rollback=current.failed if good else "")


class _Pass:
    """One look at one Scoreboard."""

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        scoreboard: JSON,
        spec: ScoreboardSpec,
        look_at_stores: LookAtStores,
    ) -> None:
        self.look_at_stores = look_at_stores
        self.cluster = cluster
        self.settings = settings
        self.scoreboard = scoreboard
        self.spec = spec
        self.name: str = scoreboard["metadata"]["name"]
        self.namespace: str = scoreboard["metadata"]["namespace"]
        self.generation: int = scoreboard["metadata"]["generation"]
        self.live: dict[Key, JSON] = {}
        self.pods: list[JSON] = []
        self.migration: migration.Migration | None = None
        self.waiting = ""
        self.invalid = "; ".join(filter(None, (action_schemas.problem(spec), schedules.problem(spec))))
        self.problems: list[str] = []
        """What the user has to mend, besides Secrets."""

    async def run(self) -> float | None:
        found = await credentials.ensure(self.cluster, self.scoreboard, self.spec)
        known = await self._revisions()
        chosen = await self._choose(known, self._inputs(found))
        await self._look()
        await self._apply_part(chosen.revision, [BASE.name, *(store.name for store in STORES)])
        await upkeep.renew_tokens(self.cluster, self.scoreboard, self.pods, self.live.values())
        password = found.redis_password
        health = await self.look_at_stores(self.cluster, self.name, self.namespace, self.spec, self.live, password)
        health |= await observe.external_stores(found.external)
        migrated = await self._migrate(chosen, health)
        if migrated:
            await self._apply_part(chosen.revision, _after_migration(chosen.revision))
            await self._scale_up()
            await self._prune(chosen)
        await upkeep.adopt(self.cluster, self.scoreboard, volumes=self.spec.deletion_policy == "Delete")
        health |= observe.workloads(self.name, self.spec, self.live)
        chosen = await self._judge(known, chosen, health, migrated)
        await self._report(known, chosen, health, [*found.problems, *self.problems], migrated)
        await self._forget(known, chosen)
        settled = chosen.revision.complete and all(part.whole for part in health.values())
        return None if settled else SOON_SECONDS

    def _inputs(self, found: credentials.Credentials) -> Inputs:
        version = self.spec.version or self.scoreboard.get("status", {}).get("version") or self.settings.version
        return Inputs(
            name=self.name,
            namespace=self.namespace,
            spec=self.spec,
            images=self.settings.images(version),
            version=version,
            operator_namespace=self.settings.namespace,
            secret_checksums=found.checksums,
            external=found.external,
        )

    async def _revisions(self) -> list[Revision]:
        items = await self.cluster.find(REVISION, self.namespace, selector(self.name, revisions.COMPONENT))
        return [revisions.from_object(item) for item in items if is_owned_by(item, self.scoreboard)]

    async def _choose(self, known: list[Revision], inputs: Inputs) -> _Chosen:
        """Render the spec, record it if it is new, and choose between it and the last good revision."""
        current = revisions.newest(known)
        if self.invalid:
            if current is None:
                raise _Invalid(self.invalid)
            return _Chosen(revisions.last_good(known) or current, is_target=False)
        rendered: dict[str, Rendered] = render(inputs, current.components if current else {})
        number = (current.number if current else 0) + 1
        wanted = revisions.named(self.name, inputs.version, config.url(inputs), rendered, number)
        unusable = [f"{store}: {external.problem}" for store, external in inputs.external.items() if external.problem]
        if current is not None and current.name == wanted.name and not current.may_be_retried(self.generation):
            target = current
        elif current is not None and self.spec.paused:
            return _going_on(known, current)
        elif current is not None and unusable:
            # What runs goes on with what it has; a revision without the stores' addresses would be of no use.
            self.waiting = f"waiting for the stores ({'; '.join(unusable)})"
            return _going_on(known, current)
        else:
            target = await self._record(known, wanted)
        good = revisions.last_good(known, besides=target)
        if target.has_failed(self.generation) and good is not None:
            return _Chosen(good, is_target=False, rollback=target.failed)
        return _Chosen(target, is_target=True)

    async def _record(self, known: list[Revision], wanted: Revision) -> Revision:
        """Store a revision, or make one that was there before the newest again: its roll-out begins."""
        await self._discard_failed_migration(wanted)
        before = next((revision for revision in known if revision.name == wanted.name), None)
        if before is None:
            # Applied, not created: the server then stores the immutable data in its own canonical form, to which
            # later patches of the annotations compare equal.
            await self.cluster.apply(REVISION, revisions.to_object(wanted, self.scoreboard))
            known.append(wanted)
            target = wanted
        else:
            annotations = dict.fromkeys((revisions.FAILED, revisions.FAILED_GENERATION, revisions.BLOCKED_SINCE))
            patch = {"revision": wanted.number, "metadata": {"annotations": annotations}}
            await self.cluster.merge(REVISION, self.namespace, wanted.name, patch)
            target = replace(before, number=wanted.number, failed="", failed_generation=0, blocked_since="")
            known[known.index(before)] = target
        note = f"rolling out revision {target.name} (version {target.version})"
        await recorder.record(self.cluster, self.scoreboard, "Normal", "RolloutStarted", note, "RollOut")
        return target

    async def _look(self) -> None:
        """Read all objects of this Scoreboard that exist."""
        chosen = {**selector(self.name), "app.kubernetes.io/managed-by": MANAGER}
        found = await asyncio.gather(*(self.cluster.find(kind, self.namespace, chosen) for kind in OWNED))
        self.pods = await self.cluster.find(POD, self.namespace, selector(self.name))
        self.live = {key_of(item): item for items in found for item in items}

    async def _apply_part(self, revision: Revision, names: Iterable[str]) -> None:
        """Apply components in their order; in each, what others rely on first."""
        for name in names:
            objects = revision.components[name].objects
            for kind in OWNED:
                await self._apply_all(revision, [item for item in objects if kind_of(item) == kind])

    async def _apply_all(self, revision: Revision, objects: list[JSON]) -> None:
        gate = asyncio.Semaphore(PARALLEL)

        async def one(item: JSON) -> None:
            wanted = prepared(item, self.scoreboard)
            before = self.live.get(key_of(item))
            if in_shape(before, wanted):
                return
            try:
                async with gate:
                    self.live[key_of(item)] = await self._put(wanted, before)
            except Refused as error:
                if not kind_of(item).optional or error.status != NOT_FOUND:
                    raise
                self.problems.append(f"{item['kind']} is not served by this cluster; install {item['apiVersion']}")
                return
            if before is None and revision.complete:
                note = f"{item['kind']} {item['metadata']['name']} was missing and has been made again"
                await recorder.record(self.cluster, self.scoreboard, "Warning", "Restored", note, "Restore")

        await asyncio.gather(*(one(item) for item in objects))

    async def _put(self, wanted: JSON, before: JSON | None) -> JSON:
        """Apply one object; what others put into its lists goes, too.

        Server-side apply keeps list items of other managers, and is refused where they contradict ours (a Service whose
        port was edited). A merge patch replaces whole lists; it is used for such drift only.
        """
        kind, meta = kind_of(wanted), wanted["metadata"]
        try:
            live = await self.cluster.apply(kind, wanted)
        except Refused as error:
            if before is None or error.status != UNPROCESSABLE:
                raise
            live = before
        if contains(live, wanted):
            return live
        await self.cluster.merge_if_there(kind, meta["namespace"], meta["name"], wanted)
        return await self.cluster.apply(kind, wanted)

    async def _migrate(self, chosen: _Chosen, health: dict[str, status.Health]) -> bool:
        """Run the migration of a revision; True once its services may start.

        A revision that was rolled out before needs no gate, and when going back the schema stays: migrations
        only ever add what the version before can live with.
        """
        if not chosen.is_target and chosen.rollback:
            return True
        job = _migration_job(chosen.revision)
        exists = key_of(job) in self.live
        unformed = sorted(name for name, part in health.items() if not part.works)
        if not exists and unformed:
            causes = self._causes(health)
            details = "; ".join(f"{n}: {causes.get(n) or health[n].problem or 'starting'}" for n in unformed)
            self.waiting = f"waiting for the stores ({details})"
            return chosen.revision.good
        await self._apply_part(chosen.revision, [MIGRATION.name])
        self.migration = migration.seen(self.live[key_of(job)], self.pods)
        self.waiting = self.migration.sentence or self.waiting
        if self.migration.blocked != bool(chosen.revision.blocked_since):
            # Kept with the revision: an operator that is started anew does not begin to count again.
            since = migration.now() if self.migration.blocked else None
            patch = {"metadata": {"annotations": {revisions.BLOCKED_SINCE: since}}}
            await self.cluster.merge(REVISION, self.namespace, chosen.revision.name, patch)
        return self.migration.state == "complete" or chosen.revision.good

    async def _discard_failed_migration(self, revision: Revision) -> None:
        """Delete what is left of an earlier attempt: the Job has the same name, and would fail this one at once."""
        name = _migration_job(revision)["metadata"]["name"]
        live = await self.cluster.get(JOB, self.namespace, name)
        if live is not None and job_state(live) == "failed":
            await self.cluster.delete(JOB, self.namespace, name, live["metadata"]["uid"])

    def _causes(self, health: dict[str, status.Health]) -> dict[str, str]:
        """Why pods of components that are not whole do not run, as far as the pods tell."""
        found = {MIGRATION.name: self.migration.cause} if self.migration else {}
        for name, part in health.items():
            if not part.whole and not part.external:
                known = pods.newest_trouble(pods.of_component(self.pods, name))
                item = self.live.get((DEPLOYMENT.api_version, DEPLOYMENT.kind, f"{self.name}-{name}"), {})
                found[name] = str(known or replica_failure(item))
        return {name: cause for name, cause in found.items() if cause}

    async def _scale_up(self) -> None:
        """A new Deployment starts with one pod; do not wait for the autoscaler's next look to have the least number."""
        for role in services.ROLES:
            key = (DEPLOYMENT.api_version, DEPLOYMENT.kind, f"{self.name}-{role.name}")
            least = getattr(self.spec.services, role.name).min_replicas
            item = self.live.get(key)
            if item is not None and item["spec"].get("replicas", 1) < least:
                patch = {"spec": {"replicas": least}}
                raised = await self.cluster.merge_if_there(
                    DEPLOYMENT, self.namespace, key[2], patch, manager=INITIAL_SCALE
                )
                if raised is None:
                    del self.live[key]
                else:
                    self.live[key] = raised

    async def _prune(self, chosen: _Chosen) -> None:
        """Delete what belongs to this Scoreboard and is rendered no longer."""
        wanted = {key_of(item) for item in chosen.revision.objects()}
        for key, item in list(self.live.items()):
            if key in wanted or not is_owned_by(item, self.scoreboard) or _made_by_another(item):
                continue
            if chosen.rollback and item["kind"] == JOB.kind and not migration.never_started(item, self.pods):
                continue  # its log says why the roll-out failed
            await self.cluster.delete(kind_of(item), self.namespace, key[2], item["metadata"]["uid"])
            del self.live[key]

    async def _judge(
        self, known: list[Revision], chosen: _Chosen, health: dict[str, status.Health], migrated: bool
    ) -> _Chosen:
        """Note that a roll-out is complete, or give it up and go back on the next look."""
        revision = chosen.revision
        if not chosen.is_target or revision.complete:
            return chosen
        problem = self._failure(revision, health)
        good = revisions.last_good(known, besides=revision)
        if problem and good is not None:
            annotations = {
                revisions.FAILED: problem,
                revisions.FAILED_GENERATION: str(self.generation),
                revisions.BLOCKED_SINCE: None,
            }
            await self.cluster.merge(
                REVISION, self.namespace, revision.name, {"metadata": {"annotations": annotations}}
            )
            note = f"{problem}; going back to revision {good.name} (version {good.version})"
            await recorder.record(self.cluster, self.scoreboard, "Warning", "RolledBack", note, "RollBack")
            return _Chosen(good, is_target=False, rollback=problem)
        done = migrated and not self.waiting and all(part.rolled_out and part.works for part in health.values())
        if not done:
            return chosen
        mark = {"metadata": {"annotations": {revisions.GOOD: str(revision.number)}}}
        await self.cluster.merge(REVISION, self.namespace, revision.name, mark)
        finished = replace(revision, good_number=revision.number)
        known[known.index(revision)] = finished
        note = f"revision {revision.name} (version {revision.version}) is rolled out"
        await recorder.record(self.cluster, self.scoreboard, "Normal", "RolledOut", note, "RollOut")
        return _Chosen(finished, is_target=True)

    def _failure(self, revision: Revision, health: dict[str, status.Health]) -> str:
        """Why the roll-out cannot succeed, or an empty text."""
        stuck = sorted(name for name, part in health.items() if part.failed)
        if stuck:
            problems = {name: health[name].problem for name in stuck} | self._causes(health)
            return f"the roll-out of revision {revision.name} made no progress: {status.with_causes(stuck, problems)}"
        tried = self.migration
        if tried is not None and tried.state == "failed":
            cause = f": {tried.cause}" if tried.cause else ""
            return f"the migration of revision {revision.name} failed{cause}"
        if tried is not None and tried.blocked and migration.is_over(revision.blocked_since):
            return f"the migration of revision {revision.name} could not start: {tried.cause}"
        return ""

    async def _report(
        self,
        known: list[Revision],
        chosen: _Chosen,
        health: dict[str, status.Health],
        problems: list[str],
        migrated: bool,
    ) -> None:
        seen = status.Seen(
            generation=self.generation,
            components=health,
            target_is_applied=chosen.is_target,
            target_is_good=chosen.revision.complete,
            paused=self.spec.paused,
            rollback=chosen.rollback,
            invalid=self.invalid,
            waiting=self.waiting,
            causes=self._causes(health),
            problems=tuple(problems),
        )
        conditions = status.conditions(seen)
        before = self.scoreboard.get("status", {})
        old = before.get("conditions", [])
        # Before a first roll-out is complete, its version runs as soon as its services may start.
        runs = chosen.revision.complete or chosen.rollback or (migrated and "version" not in before)
        good = chosen.revision if chosen.rollback else revisions.last_good(known)
        counted = await observe.counts(self.cluster, self.name, self.namespace)
        await recorder.record_changes(self.cluster, self.scoreboard, conditions, old)
        await _write_status(
            self.cluster,
            self.scoreboard,
            {
                "observedGeneration": self.generation,
                "conditions": status.merged(conditions, old),
                "version": chosen.revision.version if runs else before.get("version"),
                "currentRevision": chosen.revision.name,
                "lastGoodRevision": good.name if good else None,
                "url": chosen.revision.url,
                "components": {
                    name: {"ready": h.ready, "desired": h.desired} for name, h in health.items() if not h.external
                },
                **counted,
            },
        )

    async def _forget(self, known: list[Revision], chosen: _Chosen) -> None:
        for revision in revisions.superfluous(known):
            if revision.name != chosen.revision.name:
                await self.cluster.delete(REVISION, self.namespace, revision.name)


def _made_by_another(item: JSON) -> bool:
    """Whether the object was not applied by the operator, such as what Patroni stores in ConfigMaps."""
    return not any(entry.get("manager") == MANAGER for entry in item["metadata"].get("managedFields", []))


def _migration_job(revision: Revision) -> JSON:
    (job,) = (item for item in revision.components[MIGRATION.name].objects if item["kind"] == JOB.kind)
    return job


def _after_migration(revision: Revision) -> list[str]:
    before = {BASE.name, MIGRATION.name, *(store.name for store in STORES)}
    return [name for name in revision.components if name not in before]
