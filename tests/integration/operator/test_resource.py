"""The resource as the API server sees it: defaults, refusals with a helping sentence, status."""

from __future__ import annotations

from typing import Any

import pytest

from podium_operator.cluster import Refused
from podium_operator.spec import JSON, ScoreboardSpec
from tests.integration.operator.world import World

BEST = {"name": "lap", "operator": "Best"}
FROM = {"field": "score", "max": 9}


async def test_defaults_of_the_server_are_those_of_the_model(world: World) -> None:
    """An empty spec is filled in exactly as the code understands it."""
    stored = (await world.write({}))["spec"]
    assert stored == ScoreboardSpec().model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"actions": [{"type": "a"}]}, "either points"),
        ({"actions": [{"type": "a", "points": 1, "pointsFrom": FROM}], "boards": [BEST]}, "either points"),
        ({"actions": [{"type": "a", "pointsFrom": FROM}]}, "Best or Latest"),
        ({"actions": [{"type": "a", "pointsFrom": {**FROM, "min": 10}}], "boards": [BEST]}, "must not be above"),
        ({"actions": [{"type": "a", "points": 1, "boards": ["none"]}]}, "not in spec.boards"),
        ({"actions": [{"type": "a", "points": 1}, {"type": "a", "points": 2}]}, "duplicate entries"),
        ({"services": {"scores": {"minReplicas": 5, "maxReplicas": 2}}}, "raise maxReplicas"),
        ({"gateway": {"exposure": "Ingress"}}, "needs gateway.host"),
        ({"gateway": {"tlsSecretName": "x"}}, "set exposure to Ingress"),
        ({"gateway": {"trustedProxies": ["10.0.0.1"]}}, "as CIDR"),
        ({"postgres": {"synchronous": "Strict", "instances": 2}}, "instances of 3 or more"),
        ({"nats": {"replicas": 2}}, "odd number"),
        ({"security": {"accessTokenTTL": "2d"}}, "24h at most"),
        ({"security": {"accessTokenTTL": "5 minutes"}}, "should match"),
        ({"redis": {"shards": 2}}, "greater than or equal to 3"),
        ({"observability": {"traceSampleRatio": 2}}, "less than or equal to 1"),
        ({"boards": []}, "at least 1 items"),
        ({"postgres": {"external": {"host": "x"}}}, "field not declared in schema"),
        ({"pausd": True}, "field not declared in schema"),
    ],
)
async def test_what_cannot_work_is_refused_with_a_sentence(world: World, spec: JSON, sentence: str) -> None:
    """The message says what is wrong or what to write instead."""
    with pytest.raises(Refused, match=sentence):
        await world.write(spec)


@pytest.mark.parametrize("name", ["a" * 41, "9lives", "with.dot"])
async def test_a_name_that_cannot_prefix_services_is_refused(world: World, name: str) -> None:
    """The name becomes part of DNS names."""
    with pytest.raises(Refused, match="at most 40 characters"):
        await world.write({}, name=name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"redis": {"shards": 3}}, {"redis": {"shards": 4}}),
        ({"nats": {"replicas": 3}}, {"nats": {"replicas": 1}}),
        ({"postgres": {"storage": "5Gi"}}, {"postgres": {"storage": "6Gi"}}),
    ],
)
async def test_what_cannot_be_changed_later_is_refused(world: World, before: Any, after: Any) -> None:
    """The sentence says so."""
    await world.write(before)
    with pytest.raises(Refused, match="cannot be changed"):
        await world.write(after)
