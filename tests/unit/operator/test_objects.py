"""Drift, ownership and readiness of Kubernetes objects."""

from __future__ import annotations

from typing import Any

from podium_operator.objects import (
    contains,
    deployment_health,
    has_dead_token,
    in_shape,
    is_owned_by,
    job_state,
    prepared,
    stateful_set_health,
)
from podium_operator.spec import JSON

SCOREBOARD: JSON = {
    "apiVersion": "podium.dev/v1alpha1",
    "kind": "Scoreboard",
    "metadata": {"name": "arcade", "namespace": "games", "uid": "u-1"},
}
ITEM: JSON = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "games"},
    "data": {"k": "v"},
}


def test_what_the_server_adds_is_no_drift() -> None:
    """Defaults and status beside the wanted fields are fine."""
    wanted = prepared(ITEM, SCOREBOARD)
    live = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": "7"}, "status": {}}
    assert in_shape(live, wanted)


def test_a_changed_value_is_drift() -> None:
    """Somebody edited the object."""
    wanted = prepared(ITEM, SCOREBOARD)
    assert not in_shape({**wanted, "data": {"k": "other"}}, wanted)


def test_a_field_that_is_wanted_no_longer_is_noticed() -> None:
    """The checksum of what was applied differs, although all that is wanted is there."""
    before = prepared({**ITEM, "data": {"k": "v", "old": "x"}}, SCOREBOARD)
    assert not in_shape(before, prepared(ITEM, SCOREBOARD))


def test_an_absent_object_is_not_in_shape() -> None:
    """Nothing there means that it must be made."""
    assert not in_shape(None, prepared(ITEM, SCOREBOARD))


def test_an_additional_item_in_a_list_is_drift() -> None:
    """Lists must be as long as wanted; maps may hold more."""
    assert contains({"a": 1, "b": 2}, {"a": 1})
    assert not contains([1, 2], [1])


def test_empty_values_may_be_left_out_by_the_server() -> None:
    """An empty list and an absent field are the same."""
    assert contains({}, {"ingress": []})


def test_an_object_of_a_former_scoreboard_of_the_name_is_not_ours() -> None:
    """Ownership goes by uid."""
    other = {**SCOREBOARD, "metadata": {**SCOREBOARD["metadata"], "uid": "u-0"}}
    assert is_owned_by(prepared(ITEM, SCOREBOARD), SCOREBOARD)
    assert not is_owned_by(prepared(ITEM, other), SCOREBOARD)


def _deployment(wanted: int = 2, generation: int = 2, **status: Any) -> JSON:
    return {"metadata": {"generation": generation}, "spec": {"replicas": wanted}, "status": status}


ROLLED_OUT = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}


def test_a_deployment_with_all_pods_new_is_rolled_out() -> None:
    """All updated, all available."""
    health = deployment_health(_deployment(**ROLLED_OUT))
    assert (health.ready, health.desired, health.rolled_out, health.whole) == (2, 2, True, True)


def test_an_old_observed_generation_is_not_rolled_out() -> None:
    """The numbers are still those of the former template."""
    assert not deployment_health(_deployment(**{**ROLLED_OUT, "observedGeneration": 1})).rolled_out


def test_an_old_pod_beside_the_new_ones_is_not_rolled_out() -> None:
    """Three pods, two of them new."""
    assert not deployment_health(_deployment(**{**ROLLED_OUT, "replicas": 3})).rolled_out


def test_an_old_pod_that_still_answers_is_not_rolled_out() -> None:
    """A pod that was told to go answers by its old settings for some seconds; long connections may outlast that."""
    leaving = _deployment(**{**ROLLED_OUT, "terminatingReplicas": 1})
    assert not deployment_health(leaving).rolled_out
    assert deployment_health(leaving, outlasts=True).rolled_out


def test_the_least_number_counts_before_the_autoscaler_has_seen_it() -> None:
    """One pod of at least three is not rolled out."""
    one = dict.fromkeys(ROLLED_OUT, 1) | {"observedGeneration": 2}
    health = deployment_health(_deployment(wanted=1, **one), least=3)
    assert (health.desired, health.rolled_out) == (3, False)


def test_a_passed_progress_deadline_is_a_failure() -> None:
    """Kubernetes says so in the Progressing condition."""
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}
    health = deployment_health(_deployment(observedGeneration=2, conditions=[late]))
    assert health.failed
    assert health.problem == "too late"


def test_a_stateful_set_is_rolled_out_with_all_pods_ready_and_new() -> None:
    """Revisions agree and every pod is ready."""
    item = {
        "metadata": {"generation": 1},
        "spec": {"replicas": 3},
        "status": {"observedGeneration": 1, "readyReplicas": 3, "currentRevision": "a", "updateRevision": "a"},
    }
    assert stateful_set_health(item).whole
    item["status"]["updateRevision"] = "b"  # type: ignore[index]
    assert not stateful_set_health(item).whole


def _pod(created: str, *sources: JSON, **metadata: Any) -> JSON:
    volume = {"name": "api", "projected": {"sources": list(sources)}}
    spec = {"serviceAccountName": "a", "volumes": [volume]}
    return {"metadata": {"creationTimestamp": created, **metadata}, "spec": spec}


def test_a_token_dies_with_its_account() -> None:
    """A pod that is older than its ServiceAccount and holds a token must be started again."""
    account: JSON = {"metadata": {"name": "a", "creationTimestamp": "2026-01-02T00:00:00Z"}}
    token = {"serviceAccountToken": {"path": "token"}}
    before, after = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
    assert has_dead_token(_pod(before, token), account)
    assert not has_dead_token(_pod(after, token), account)
    assert not has_dead_token(_pod(before), account)
    assert not has_dead_token(_pod(before, token, deletionTimestamp=after), account)


def test_job_states() -> None:
    """Complete, failed, or still running."""
    assert job_state({}) == "running"
    assert job_state({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}) == "complete"
    assert job_state({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}) == "failed"
