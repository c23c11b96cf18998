"""Roll-outs whose pods do not run, against a real API server: why is said at once, and the operator goes back."""

from __future__ import annotations

from podium_operator import revisions
from podium_operator.cluster import JOB, REVISION
from podium_operator.spec import JSON
from tests.integration.operator.world import NAME, USER, World

LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no progress"}
LONG_AGO = "2026-01-01T00:00:00Z"


def _waiting(reason: str, message: str = "") -> JSON:
    """A pod's status while its container does not start."""
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Pending", "containerStatuses": [container]}


NO_IMAGE = _waiting("ImagePullBackOff", 'Back-off pulling image "registry.test/podium:broken"')
PULLING = _waiting("ContainerCreating")
FULL = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: none.",
        }
    ],
}


async def _new_version(world: World, version: str = "broken") -> JSON:
    """A Scoreboard that runs, and then a version whose migration has just been made: its Job."""
    await world.write()
    await world.settle()
    await world.write({"version": version})
    await world.step()
    return await world.job()


async def _revision(world: World, version: str) -> JSON:
    items = await world.admin.find(REVISION, world.namespace)
    return next(item for item in items if item["data"]["version"] == version)


async def _blocked_for_long(world: World, version: str = "broken") -> None:
    """The three minutes that a migration's pod is given have passed."""
    name = (await _revision(world, version))["metadata"]["name"]
    patch = {"metadata": {"annotations": {revisions.BLOCKED_SINCE: LONG_AGO}}}
    await world.admin.merge(REVISION, world.namespace, name, patch, manager=USER)


async def test_an_image_that_does_not_exist_is_said_at_once(world: World) -> None:
    """In all three conditions, on the first look at the pod; the version is still the one that runs."""
    await world.pod(await _new_version(world), NO_IMAGE)
    await world.step()
    found = await world.conditions()
    for kind, status in {"Ready": "False", "Progressing": "True", "Degraded": "True"}.items():
        assert found[kind]["status"] == status
        assert 'ImagePullBackOff: Back-off pulling image "registry.test/podium:broken"' in found[kind]["message"]
    assert "cannot start" in found["Ready"]["message"]
    assert (await world.read())["status"]["version"] == "1.0.0"


async def test_a_migration_that_cannot_start_is_given_up(world: World) -> None:
    """The last good revision stays, the message has the cause, and nothing of the attempt goes on by itself."""
    job = await _new_version(world)
    await world.pod(job, NO_IMAGE)
    await world.step()
    await world.step()
    assert (await world.conditions())["Ready"]["reason"] == "RollingOut"

    await _blocked_for_long(world)
    await world.step()
    await world.settle(3)
    found = await world.conditions()
    assert {found[kind]["reason"] for kind in ("Ready", "Progressing", "Degraded")} == {"RolledBack"}
    assert "could not start: ImagePullBackOff" in found["Degraded"]["message"]
    assert (await world.read())["status"]["version"] == "1.0.0"
    assert await world.admin.get(JOB, world.namespace, job["metadata"]["name"]) is None


async def test_a_slow_pull_is_no_failure(world: World) -> None:
    """A pod that is pulling its image has all the time of the Job, whatever kept it before."""
    job = await _new_version(world)
    await world.pod(job, NO_IMAGE)
    await world.step()
    await _blocked_for_long(world)
    await world.pod(job, PULLING)
    # The operator has not seen the pull before the deadline, but it sees it now.
    await world.step()
    found = await world.conditions()
    assert (found["Ready"]["reason"], found["Degraded"]["status"]) == ("RollingOut", "False")
    assert revisions.BLOCKED_SINCE not in (await _revision(world, "broken"))["metadata"].get("annotations", {})

    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"
    assert (await world.read())["status"]["version"] == "broken"


async def test_the_same_revision_is_tried_again_with_the_next_generation(world: World) -> None:
    """It gets a Job and all its time anew; the image may have been pushed meanwhile."""
    job = await _new_version(world)
    await world.pod(job, NO_IMAGE)
    await world.step()
    await _blocked_for_long(world)
    await world.settle(3)
    assert (await world.conditions())["Ready"]["reason"] == "RolledBack"

    await world.write({"version": "broken", "paused": True})
    await world.step()
    assert (await world.deployment("scores"))["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":1.0.0")
    await world.write({"version": "broken"})
    await world.step()
    again = await world.job()
    assert again["metadata"]["name"] == job["metadata"]["name"]
    assert again["metadata"]["uid"] != job["metadata"]["uid"]
    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"
    assert (await world.read())["status"]["version"] == "broken"


async def test_a_migration_that_failed_is_tried_again_too(world: World) -> None:
    """Its Job stays until then, because of its log; the message has what its last pod said."""
    job = await _new_version(world)
    state = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no such role; password=hunter2"}}
    container = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    await world.pod(job, {"phase": "Failed", "containerStatuses": [container]})
    await world.step()
    assert "is tried again: Crashed: exit code 1: no such role" in (await world.conditions())["Ready"]["message"]

    failed = [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": LONG_AGO,
               "lastProbeTime": LONG_AGO} for kind in ("FailureTarget", "Failed")]  # fmt: skip
    ended: JSON = {"conditions": failed, "startTime": LONG_AGO, "failed": 1}
    await world.admin.merge(JOB, world.namespace, job["metadata"]["name"], {"status": ended}, "status", USER)
    await world.settle(3)
    found = await world.conditions()
    assert found["Degraded"]["reason"] == "RolledBack"
    assert "failed: Crashed: exit code 1: no such role" in found["Degraded"]["message"]
    assert "hunter2" not in str(await world.read()) + str(await world.admin.find(REVISION, world.namespace))
    assert await world.admin.get(JOB, world.namespace, job["metadata"]["name"]) is not None

    await world.write({"version": "broken", "tiers": [{"name": "gold", "minScore": 1}]})
    await world.settle()
    assert (await world.conditions())["Ready"]["status"] == "True"


async def test_a_roll_back_names_what_the_pods_said(world: World) -> None:
    """While the roll-out stands still, and as the reason for going back."""
    await world.write()
    await world.settle()
    world.frozen = {"scores"}
    await world.write({"version": "large"})
    await world.settle(3)
    scores = await world.deployment("scores")
    await world.pod(scores, FULL)
    await world.deployment_status(scores, conditions=[], replicas=3, updatedReplicas=1, readyReplicas=2)
    await world.step()
    found = await world.conditions()
    assert found["Degraded"]["reason"] == "PodsFailing"
    for kind in ("Ready", "Degraded", "Scores"):
        assert "Unschedulable: 0/3 nodes are available: 3 Insufficient memory." in found[kind]["message"]
    assert (await world.read())["status"]["version"] == "1.0.0"

    await world.deployment_status(scores, conditions=[LATE], replicas=3, updatedReplicas=1)
    await world.step()
    message = (await world.conditions())["Degraded"]["message"]
    assert message.endswith("made no progress: scores: Unschedulable: 0/3 nodes are available: 3 Insufficient memory.")


async def test_pods_that_may_not_be_made_are_named(world: World) -> None:
    """A quota leaves no pod behind that could tell; the Deployment does."""
    await world.write()
    await world.settle()
    world.frozen = {"scores"}
    await world.write({"version": "large"})
    await world.settle(3)
    quota = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: games"}
    scores = await world.deployment("scores")
    await world.deployment_status(scores, conditions=[quota], replicas=2, updatedReplicas=0)
    await world.step()
    assert "scores: FailedCreate: exceeded quota: games" in (await world.conditions())["Degraded"]["message"]


async def test_a_first_version_that_never_ran_is_not_shown(world: World) -> None:
    """The version appears when its services may start."""
    await world.write({"version": "broken"})
    await world.step()
    await world.pod(await world.job(), NO_IMAGE)
    await world.step()
    assert "version" not in (await world.read())["status"]
    assert (await world.conditions())["Degraded"]["reason"] == "PodsFailing"
    await world.work()
    await world.step()
    assert (await world.read())["status"]["version"] == "broken"
    assert NAME in (await world.read())["status"]["currentRevision"]
