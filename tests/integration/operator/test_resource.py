"""The resource as the API server sees it: defaults, refusals with a helping sentence, status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from podium_operator.cluster import Refused
from podium_operator.spec import JSON, ScoreboardSpec
from tests.integration.operator.world import World

BEST = {"name": "lap", "operator": "Best"}
FROM = {"field": "score", "max": 9}
EXAMPLES = Path(__file__).parents[3] / "examples"
EXTERNAL = {"secretRef": {"name": "x"}}
PURGE = {"url": "https://edge.example/purge", "secretRef": {"name": "edge"}}
ROUTE = {"exposure": "HTTPRoute", "className": "g", "host": "a.example"}


async def test_defaults_of_the_server_are_those_of_the_model(world: World) -> None:
    """An empty spec is filled in exactly as the code understands it."""
    stored = (await world.write({}))["spec"]
    assert stored == ScoreboardSpec().model_dump(mode="json", by_alias=True, exclude_none=True)


def _examples() -> dict[str, JSON]:
    """Specs of the Scoreboards of examples/, by file."""
    items = {
        path.stem: yaml.safe_load_all(path.read_text(encoding="utf-8")) for path in sorted(EXAMPLES.glob("*.yaml"))
    }
    return {name: item["spec"] for name, found in items.items() for item in found if item["kind"] == "Scoreboard"}


@pytest.mark.parametrize("name", _examples())
async def test_the_examples_are_accepted(world: World, name: str) -> None:
    """Every Scoreboard of examples/ satisfies the schema and the rules."""
    assert await world.write(_examples()[name])


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"actions": [{"type": "a"}]}, "either points"),
        ({"actions": [{"type": "a", "points": 1, "pointsFrom": FROM}], "boards": [BEST]}, "either points"),
        ({"actions": [{"type": "a", "pointsFrom": FROM}]}, "Best or Latest"),
        ({"actions": [{"type": "a", "pointsFrom": {**FROM, "min": 10}}], "boards": [BEST]}, "must not be above"),
        ({"actions": [{"type": "a", "points": 1, "boards": ["none"]}]}, "not in spec.boards"),
        ({"actions": [{"type": "a", "points": 1}, {"type": "a", "points": 2}]}, "duplicate entries"),
        ({"actions": [{"type": "a", "points": 1, "boards": ["default", "default"]}]}, "duplicate entries"),
        ({"actions": [{"type": "a", "points": 1, "cooldownSeconds": -1}]}, "greater than or equal to 0"),
        ({"boards": [BEST, BEST]}, "duplicate entries"),
        ({"boards": [{"name": "a", "reset": "daily"}]}, "five cron fields .* or as one of @hourly, @daily"),
        ({"boards": [{"name": "a", "reset": "0 0 * * * *"}]}, "five cron fields"),
        ({"boards": [{"name": "a", "retainSeasons": -1}]}, "greater than or equal to 0"),
        ({"tiers": [{"name": "a", "minScore": 1}, {"name": "a", "minScore": 2}]}, "duplicate entries"),
        ({"tiers": [{"name": "a", "minScore": 1}, {"name": "b", "minScore": 1}]}, "a minScore of its own"),
        ({"services": {"scores": {"minReplicas": 5, "maxReplicas": 2}}}, "raise maxReplicas"),
        ({"gateway": {"exposure": "Ingress"}}, "needs gateway.host"),
        ({"gateway": {"exposure": "HTTPRoute", "className": "g"}}, "needs gateway.host"),
        ({"gateway": {"exposure": "HTTPRoute", "host": "a.example"}}, "the name of the Gateway, or namespace/name"),
        ({"gateway": {**ROUTE, "tlsSecretName": "x"}}, "the listener of the Gateway has the certificate"),
        ({"gateway": {**ROUTE, "exposure": "Ingress", "className": "a/b"}}, "an Ingress class only"),
        ({"gateway": {**ROUTE, "className": "a/b/c"}}, "should match"),
        ({"gateway": {"tlsSecretName": "x"}}, "set exposure to Ingress"),
        ({"gateway": {"trustedProxies": ["10.0.0.1"]}}, "as CIDR"),
        ({"postgres": {"synchronous": "Strict", "instances": 2}}, "instances of 3 or more"),
        ({"postgres": {"auditRetention": "23h"}}, "a day or more"),
        ({"postgres": {"auditRetention": "3600s"}}, "in days or hours"),
        ({"postgres": {"auditRetention": "99999d"}}, "9999d at most"),
        ({"nats": {"replicas": 2}}, "odd number"),
        ({"security": {"accessTokenTTL": "2d"}}, "24h at most"),
        ({"security": {"accessTokenTTL": "25h"}}, "24h at most"),
        ({"security": {"accessTokenTTL": "999999999h"}}, "24h at most"),
        ({"security": {"accessTokenTTL": "5x"}}, "one unit of s, m, h or d, for example"),
        ({"security": {"refreshTokenTTL": "-5m"}}, "one unit of s, m, h or d, for example"),
        ({"cdn": {"sMaxAge": "0s"}}, "one unit of s, m, h or d, for example"),
        ({"cdn": {"staleIfError": "forever"}}, "one unit of s, m, h or d, for example"),
        ({"cdn": {"purge": {"url": PURGE["url"]}}}, "secretRef: Required"),
        ({"cdn": {"purge": {**PURGE, "url": "edge.example/purge"}}}, "write purge.url as https://host/path"),
        ({"cdn": {"purge": {**PURGE, "url": "ftp://edge.example/"}}}, "write purge.url as https://host/path"),
        ({"cdn": {"purge": {**PURGE, "url": "https://me:secret@edge.example/"}}}, "the token belongs into the Secret"),
        ({"cdn": {"purge": {**PURGE, "url": "https://edge.example:70000/"}}}, "write purge.url as https://host/path"),
        ({"cdn": {"purge": {**PURGE, "url": "https://edge.example/a b"}}}, "write purge.url as https://host/path"),
        ({"cdn": {"purge": {**PURGE, "url": "http://api.fastly.com/", "form": "Fastly"}}}, "purge.url with https"),
        ({"cdn": {"purge": {**PURGE, "form": "Akamai"}}}, 'supported values: "Signed", "Bearer"'),
        ({"redis": {"shards": 2}}, "greater than or equal to 3"),
        ({"observability": {"traceSampleRatio": 2}}, "less than or equal to 1"),
        ({"boards": []}, "at least 1 items"),
        ({"postgres": {"external": {**EXTERNAL, "host": "x"}}}, "field not declared in schema"),
        ({"postgres": {"external": {}}}, "secretRef: Required"),
        ({"postgres": {"external": EXTERNAL, "instances": 3}}, "remove instances, synchronous, storage, resources"),
        ({"redis": {"external": EXTERNAL, "resources": {"limits": {"memory": "1Gi"}}}}, "remove shards"),
        ({"nats": {"external": EXTERNAL, "storage": "3Gi"}}, "remove replicas, storage, resources"),
        ({"nats": {"external": {**EXTERNAL, "replicas": 2}}}, "Unsupported value: 2"),
        ({"pausd": True}, "field not declared in schema"),
    ],
)
async def test_what_cannot_work_is_refused_with_a_sentence(world: World, spec: JSON, sentence: str) -> None:
    """The message says what is wrong or what to write instead."""
    with pytest.raises(Refused, match=sentence):
        await world.write(spec)


async def test_a_refused_duration_is_not_quoted_as_a_failed_conversion(world: World) -> None:
    """Only sentences that help: no error of the rule's own evaluation."""
    with pytest.raises(Refused) as refused:
        await world.write({"security": {"accessTokenTTL": "5x"}})
    assert "conversion" not in str(refused.value)
    assert "24h at most" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://edge.example", "http://varnish.edge:6081/purge", "https://a.b/client/v4/zones/1/purge_cache?x=%20"]
)
async def test_where_a_purge_may_go(world: World, url: str) -> None:
    """Any host and port, with or without a path and a query."""
    assert await world.write({"cdn": {"purge": {**PURGE, "url": url}}})


async def test_points_may_be_taken_away(world: World) -> None:
    """A penalty is an action with negative points."""
    assert await world.write({"actions": [{"type": "foul", "points": -5}], "tiers": [{"name": "a", "minScore": -9}]})


async def test_the_retention_of_the_log_is_free_where_the_database_is_external(world: World) -> None:
    """It is not a matter of who runs the database, and may change."""
    await world.write({"postgres": {"external": EXTERNAL, "auditRetention": "30d"}})
    assert await world.write({"postgres": {"external": EXTERNAL, "auditRetention": "36h"}})


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
        ({}, {"redis": {"external": EXTERNAL}}),
        ({"nats": {"external": EXTERNAL}}, {}),
    ],
)
async def test_what_cannot_be_changed_later_is_refused(world: World, before: Any, after: Any) -> None:
    """The sentence says so."""
    await world.write(before)
    with pytest.raises(Refused, match=r"cannot be (changed|added or removed)"):
        await world.write(after)
