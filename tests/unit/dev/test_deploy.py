"""Deployment: what the chart is told, when the sample counts as Ready, which contexts are this machine's."""

from typing import Any

import pytest

from podium_dev.clusters import is_local_server
from podium_dev.deploy import image_values, missing_for_ready, missing_for_rollout


def _scoreboard(generation: int, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"generation": generation}, "status": {"conditions": list(conditions)}}


def test_ready_counts_for_the_present_generation_only() -> None:
    """Ready=True of an older generation is not Ready."""
    ready = {"type": "Ready", "status": "True", "observedGeneration": 2}
    assert missing_for_ready(_scoreboard(2, ready)) is None
    assert missing_for_ready(_scoreboard(3, ready)) == "generation 3"


def test_what_is_missing_is_named() -> None:
    """The condition's own words come first, then the components that are not there."""
    assert missing_for_ready(None) is not None
    assert missing_for_ready(_scoreboard(1)) == "the operator to look at it"
    waiting = {"type": "Ready", "status": "False", "observedGeneration": 1, "message": "Redis: 3 of 6 pods"}
    assert missing_for_ready(_scoreboard(1, waiting)) == "Redis: 3 of 6 pods"
    silent = {"type": "Ready", "status": "False", "observedGeneration": 1}
    assert missing_for_ready(_scoreboard(1, silent, {"type": "RedisReady", "status": "False"})) == "RedisReady"


def test_image_values_split_repository_and_tag() -> None:
    """A registry's port is not taken for a tag."""
    refs = {
        name: f"localhost:5000/podium/{name}:abc"
        for name in ("podium", "redis", "nats", "postgres", "envoy", "ratelimit")
    }
    assert image_values(refs)["redis"] == {"repository": "localhost:5000/podium/redis", "tag": "abc"}


def test_a_rollout_counts_when_only_new_pods_are_left() -> None:
    """An old pod that still runs, or a template not yet observed, is not the present rollout."""

    def deployment(observed: int, **status: int) -> dict[str, Any]:
        return {
            "metadata": {"name": "operator", "generation": 2},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": observed, **status},
        }

    assert missing_for_rollout(deployment(2, updatedReplicas=1, availableReplicas=1, replicas=1)) is None
    assert missing_for_rollout(deployment(1, updatedReplicas=1, availableReplicas=1, replicas=1)) is not None
    assert missing_for_rollout(deployment(2, updatedReplicas=1, availableReplicas=1, replicas=2)) is not None
    assert missing_for_rollout(deployment(2, replicas=1)) == "operator (0 of 1 available)"


@pytest.mark.parametrize(
    ("server", "context", "local"),
    [
        ("https://127.0.0.1:6443", "anything", True),
        ("https://[::1]:6443", "anything", True),
        ("https://192.168.49.2:8443", "minikube", True),
        ("https://127.0.0.1.example.com:6443", "production", False),
        ("https://10.1.2.3:6443", "staging", False),
    ],
)
def test_contexts_of_this_machine(server: str, context: str, local: bool) -> None:
    """Only a loopback address or the name of a local tool makes a context local."""
    assert is_local_server(server, context) is local
