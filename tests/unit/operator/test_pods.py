"""Why pods do not run, from their status."""

from __future__ import annotations

from typing import Any

import pytest

from podium_operator import migration
from podium_operator.pods import TEXT_LIMIT, brief, newest_trouble, of_component, trouble
from podium_operator.spec import JSON


def _pod(container: JSON | None = None, created: str = "2026-01-01T00:00:00Z", **status: Any) -> JSON:
    """A pod with one container."""
    if container is not None:
        status["containerStatuses"] = [{"name": "c", "ready": False, **container}]
    owner = {"uid": "job"}
    return {"metadata": {"name": "p", "creationTimestamp": created, "ownerReferences": [owner]}, "status": status}


def _waiting(reason: str, message: str = "") -> JSON:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    "reason",
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerError", "CreateContainerConfigError"],
)
def test_what_keeps_a_container_from_starting_is_told(reason: str) -> None:
    """With the kubelet's own reason and message."""
    found = trouble(_pod(_waiting(reason, "because")))
    assert found
    assert (str(found), found.blocks) == (f"{reason}: because", True)


@pytest.mark.parametrize(
    "pod",
    [
        _pod(),
        _pod(_waiting("ContainerCreating")),
        _pod(_waiting("PodInitializing")),
        _pod({"state": {"running": {}}}),
        _pod({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}),
        _pod({"state": {"running": {}}, "ready": True, "lastState": {"terminated": {"exitCode": 1}}}),
    ],
)
def test_a_pod_that_only_needs_time_has_no_trouble(pod: JSON) -> None:
    """Pulling, starting, running, ended well, or recovered."""
    assert trouble(pod) is None


def test_a_crash_is_told_by_its_last_words() -> None:
    """Exit code, reason and termination message, also in the seconds between two crashes; it did start."""
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "out of memory"}}
    crashing = trouble(_pod({**_waiting("CrashLoopBackOff", "back-off 10s"), "lastState": ended}))
    assert crashing
    assert str(crashing) == "CrashLoopBackOff: exit code 137 (OOMKilled): out of memory"
    assert not crashing.blocks
    again = trouble(_pod({"state": {"running": {}}, "lastState": ended}))
    assert str(again) == "Crashed: exit code 137 (OOMKilled): out of memory"


def test_a_pod_without_a_node_says_what_is_missing() -> None:
    """What preemption would bring is left out."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: none.",
    }
    found = trouble(_pod(conditions=[condition]))
    assert str(found) == "Unschedulable: 0/3 nodes are available: 3 Insufficient memory."


def test_an_evicted_pod_counts_for_a_job_and_not_for_a_deployment() -> None:
    """A Deployment has replaced it; a Job counts it as an attempt."""
    pod = _pod(phase="Failed", reason="Evicted", message="low on memory")
    pod["metadata"]["labels"] = {"app.kubernetes.io/component": "scores"}
    assert str(trouble(pod)) == "Evicted: low on memory"
    assert of_component([pod], "scores") == []


def test_the_newest_pod_in_trouble_is_heard() -> None:
    """The older one may be of the template before; one that was told to go says nothing."""
    old = _pod(_waiting("CrashLoopBackOff"), "2026-01-01T00:00:00Z")
    old["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 1}}
    new = _pod(_waiting("ErrImagePull", "not found"), "2026-01-02T00:00:00Z")
    assert str(newest_trouble([old, new])) == "ErrImagePull: not found"
    new["metadata"]["deletionTimestamp"] = "2026-01-03T00:00:00Z"
    assert str(newest_trouble([old, new])) == "CrashLoopBackOff: exit code 1"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("cannot reach postgresql://podium:hunter2@db:5432/x", "cannot reach postgresql://…@db:5432/x"),
        ("GET https://r.test/v2?sig=hunter2: 403", "GET https://r.test/v2?… 403"),
        ("Authorization: Bearer hunter2 refused", "Authorization: Bearer … refused"),
        ("DATABASE_PASSWORD=hunter2 is wrong", "DATABASE_PASSWORD=… is wrong"),
        ('{"password": "hunter2"}', '{"password": "…"}'),
        ("client_secret=hunter2&x=1", "client_secret=…&x=1"),
        ('{"access_token":"hunter2"}', '{"access_token":"…"}'),
        ('secret "arcade-postgres" not found', 'secret "arcade-postgres" not found'),
        ("no basic auth credentials", "no basic auth credentials"),
        ("failed to fetch token: denied", "failed to fetch token: denied"),
    ],
)
def test_secrets_are_left_out(said: str, kept: str) -> None:
    """Credentials that a message quotes go; words about secrets stay."""
    assert brief(said) == kept


def test_a_long_message_keeps_both_ends() -> None:
    """The image is at one, the cause at the other; lines become one."""
    text = brief("failed to pull\n" + "x" * 1000 + ": not found")
    assert len(text) <= TEXT_LIMIT
    assert text.startswith("failed to pull x")
    assert text.endswith(": not found")


JOB: JSON = {"metadata": {"name": "m", "uid": "job"}, "status": {}}


def test_a_migration_tells_how_it_goes() -> None:
    """Running, kept from starting, tried again, failed, complete."""
    crashed = {"state": {"terminated": {"exitCode": 2}}}
    ended = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}
    failed = {**JOB, "status": {"conditions": [ended]}}
    complete = {**JOB, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert migration.seen(JOB, []).sentence == "migration m is running"
    blocked = migration.seen(JOB, [_pod(_waiting("ErrImagePull", "gone"))])
    assert (blocked.sentence, blocked.blocked) == ("migration m cannot start: ErrImagePull: gone", True)
    tried = migration.seen(JOB, [_pod(crashed, phase="Failed")])
    assert (tried.sentence, tried.blocked) == ("migration m is tried again: Crashed: exit code 2", False)
    assert migration.seen(failed, []).sentence == "migration m failed: DeadlineExceeded: too long"
    assert migration.seen(complete, [_pod(crashed)]).sentence == ""


def test_pods_of_an_earlier_job_of_the_name_are_not_heard() -> None:
    """Ownership goes by uid."""
    other = {**JOB, "metadata": {"name": "m", "uid": "other"}}
    assert migration.seen(other, [_pod(_waiting("ErrImagePull"))]).trouble is None


def test_only_a_migration_that_ran_nothing_never_started() -> None:
    """A container that runs, or an attempt that failed, may have changed the database."""
    assert migration.never_started(JOB, [_pod(_waiting("ErrImagePull"))])
    assert not migration.never_started(JOB, [_pod({"state": {"running": {}}})])
    assert not migration.never_started({**JOB, "status": {"failed": 1}}, [])


def test_a_blocked_migration_has_three_minutes() -> None:
    """Counted from when it was first seen so."""
    assert migration.STALL_SECONDS == 180
    assert migration.is_over("2026-01-01T00:00:00Z")
    assert not migration.is_over(migration.now())
    assert not migration.is_over("")
