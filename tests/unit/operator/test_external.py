"""External stores and the HTTPRoute: what a Secret says, and what is rendered from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from podium_operator import external
from podium_operator.builders import config, http_route, maintenance, migrate, ratelimit, services
from podium_operator.builders.base import CONFIG_CHECKSUM, External, Inputs
from podium_operator.components import COMPONENTS, render
from podium_operator.spec import JSON
from podium_operator.status import Health, Seen, conditions
from tests.unit.operator.golden import assert_golden, case, inputs

POSTGRES = {"host": "db.example.com", "user": "app", "password": "s3cret-db"}
SECRETS: dict[str, dict[str, str]] = {
    "redis": {"nodes": "r0.example.com:6379,r1.example.com:6380", "password": "s3cret-redis"},
    "nats": {"url": "nats://n0.example.com:4222,nats://n1.example.com", "user": "app", "password": "s3cret-nats"},
    "postgres": {**POSTGRES, "port": "6432", "database": "scores", "readHost": "ro.example.com"},
}
BUILDERS = {
    "config": config.build,
    "http_route": http_route.build,
    "maintenance": maintenance.build,
    "migrate": migrate.build,
    "ratelimit": ratelimit.build,
    "services": services.build,
}


def _described(**changes: dict[str, str]) -> dict[str, External]:
    return {store: external.read(store, f"shared-{store}", data) for store, data in {**SECRETS, **changes}.items()}


def _inputs(**changes: dict[str, str]) -> Inputs:
    return replace(case("external"), external=_described(**changes))


@pytest.mark.parametrize("component", sorted(BUILDERS))
def test_rendering_is_as_recorded(component: str) -> None:
    """The objects are those of the golden file."""
    assert_golden(f"external.{component}", BUILDERS[component](_inputs()))


def test_no_object_of_an_external_store_is_rendered() -> None:
    """Its component is empty, and nothing else names the operator's own store."""
    rendered = render(_inputs(), {})
    assert [rendered[store].objects for store in ("redis", "nats", "postgres")] == [[], [], []]
    text = yaml.safe_dump([item for part in rendered.values() for item in part.objects])
    assert not [name for name in ("arcade-redis", "arcade-nats", "arcade-postgres") if name in text]


def test_no_value_of_the_secrets_is_rendered() -> None:
    """Neither hosts nor users nor passwords: pods read them from the Secret."""
    text = yaml.safe_dump([item for part in render(_inputs(), {}).values() for item in part.objects])
    assert "s3cret" not in text
    assert "db.example.com" not in text
    assert "r0.example.com" not in text


def _marks(given: Inputs) -> dict[str, str]:
    items = [*services.build(given), *ratelimit.build(given)]
    templates = {i["metadata"]["name"]: i["spec"]["template"] for i in items if i["kind"] == "Deployment"}
    return {name: template["metadata"]["annotations"][CONFIG_CHECKSUM] for name, template in templates.items()}


def test_a_changed_secret_rolls_the_pods_and_migrates_again() -> None:
    """A new password reaches all services; another database gets the schema."""
    before, after = _inputs(), _inputs(postgres={**POSTGRES, "password": "new"})
    moved = {name for name, mark in _marks(before).items() if _marks(after)[name] != mark}
    assert moved == {f"arcade-{role.name}" for role in services.ROLES}
    assert migrate.build(before)[-1]["metadata"]["name"] != migrate.build(after)[-1]["metadata"]["name"]


def test_a_changed_secret_concerns_only_the_components_that_use_it() -> None:
    """The rate-limit service and the gateway know nothing of the database; alerts ask whether it is ours."""
    before, after = _inputs(), _inputs(postgres={**POSTGRES, "password": "new"})
    changed = {part.name for part in COMPONENTS if part.key(before) != part.key(after)}
    assert changed == {"postgres", "migrate", "maintenance", "application", "alerts"}


def test_a_redis_without_a_password() -> None:
    """Then nothing reads one."""
    objects = [*services.build(given := _inputs(redis={"nodes": "r:6379"})), *ratelimit.build(given)]
    text = yaml.safe_dump(objects)
    assert "PODIUM_REDIS_PASSWORD_FILE" not in text
    assert "REDIS_AUTH" not in text


@pytest.mark.parametrize(
    ("store", "data", "addresses"),
    [
        ("redis", {"nodes": "[fd00::1]:6379"}, [("fd00::1", 6379)]),
        ("nats", {"url": "nats://n"}, [("n", 4222)]),
        ("postgres", POSTGRES, [("db.example.com", 5432)]),
        ("postgres", SECRETS["postgres"], [("db.example.com", 6432), ("ro.example.com", 6432)]),
        ("postgres", {**POSTGRES, "readPort": "5433"}, [("db.example.com", 5432), ("db.example.com", 5433)]),
        ("postgres", {**POSTGRES, "host": "fd00::1"}, [("fd00::1", 5432)]),
    ],
)
def test_where_a_store_is(store: str, data: dict[str, str], addresses: list[tuple[str, int]]) -> None:
    """Host and port of all that the services connect to."""
    found = external.read(store, "x", data)
    assert (found.problem, list(found.addresses)) == ("", addresses)


@pytest.mark.parametrize(
    ("store", "data", "sentence"),
    [
        ("redis", None, "Secret x does not exist; make it with the key nodes"),
        ("postgres", {"host": "h", "password": ""}, "Secret x lacks user, password; add what is missing"),
        ("redis", {"nodes": "host"}, "nodes must be host:port"),
        ("redis", {"nodes": "a:1, b:2"}, "no spaces"),
        ("redis", {"nodes": "a:70000"}, "nodes must be host:port"),
        ("redis", {"nodes": "a:1", "password": "p\n"}, "password begins or ends with white space"),
        ("nats", {"url": "n:4222"}, "url must be nats://host:port"),
        ("nats", {"url": "nats://n:port"}, "url must be nats://host:port"),
        ("nats", {"url": "nats://me:secret@n:4222"}, "use the keys user and password"),
        ("postgres", {**POSTGRES, "port": "five"}, "host and port must be host:port"),
        ("postgres", {**POSTGRES, "readHost": "a b"}, "readHost and readPort must be host:port"),
    ],
)
def test_a_secret_that_is_not_enough(store: str, data: dict[str, str] | None, sentence: str) -> None:
    """The sentence says what to write, and quotes no value."""
    found = external.read(store, "x", data)
    assert sentence in found.problem
    assert "me:secret" not in found.problem
    assert not found.addresses


def test_rendering_without_the_secret_crashes_nothing() -> None:
    """What is rendered before the Secret is there waits for it."""
    described = {store: external.read(store, f"shared-{store}", None) for store in SECRETS}
    assert render(replace(case("external"), external=described), {})


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (Health(0, 0, True, external=True), ("True", "External")),
        (Health(0, 0, True, "Secret x does not exist", serving=False, external=True), ("False", "External")),
    ],
)
def test_the_condition_of_an_external_store(health: Health, expected: tuple[str, str]) -> None:
    """Its reason is External; where it cannot be reached it does not hold, and the Scoreboard is not ready."""
    found = {c.type: c for c in conditions(Seen(1, {"redis": health}, True, True))}
    assert (found["Redis"].status, found["Redis"].reason) == expected
    assert found["Ready"].status == expected[0]
    assert health.problem in found["Redis"].message


def _route(**gateway: Any) -> list[JSON]:
    return http_route.build(inputs({"gateway": {"host": "scores.example.com", **gateway}}))


def test_a_route_to_a_gateway_of_the_same_namespace() -> None:
    """A plain name is enough."""
    (route,) = _route(exposure="HTTPRoute", className="public")
    assert route["spec"]["parentRefs"] == [
        {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"},
    ]


@pytest.mark.parametrize("exposure", ["Ingress", "None"])
def test_no_route_for_other_exposures(exposure: str) -> None:
    """Only `HTTPRoute` makes one."""
    assert _route(exposure=exposure, className="public") == []


@pytest.mark.parametrize(
    ("gateway", "url"),
    [
        ({"exposure": "HTTPRoute", "className": "g", "host": "a.example"}, "https://a.example"),
        ({"exposure": "Ingress", "host": "a.example"}, "http://a.example"),
        ({"exposure": "Ingress", "host": "a.example", "tlsSecretName": "t"}, "https://a.example"),
        ({"host": "a.example"}, "http://arcade-gateway.games.svc"),
    ],
)
def test_the_public_address(gateway: JSON, url: str) -> None:
    """What status.url and the issuer of tokens say."""
    assert config.url(inputs({"gateway": gateway})) == url
