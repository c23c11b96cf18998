"""What must hold for the objects of the stores and the gateway, whatever the spec says."""

import json
from typing import Any

import pytest

from podium_operator.builders import envoy_routes, gateway, nats, patroni, postgres, ratelimit, redis, stateful
from podium_operator.builders.base import CONFIG_CHECKSUM, Images, Inputs
from podium_operator.spec import JSON, ScoreboardSpec

BUILDERS = (redis, nats, postgres, ratelimit, gateway)


def inputs(**spec: Any) -> Inputs:
    """Inputs of a Scoreboard `sb`."""
    images = Images(*(f"registry.test/{name}:1" for name in ("podium", "redis", "nats", "postgres", "envoy", "limit")))
    return Inputs("sb", "ns", ScoreboardSpec.model_validate(spec), images, "1", secret_checksums={"jwks": "a"})


def of_kind(items: list[JSON], kind: str) -> list[JSON]:
    """Objects of one kind."""
    return [item for item in items if item["kind"] == kind]


def workload(items: list[JSON]) -> JSON:
    """The one StatefulSet or Deployment."""
    (found,) = [*of_kind(items, "StatefulSet"), *of_kind(items, "Deployment")]
    return found


@pytest.mark.parametrize("module", BUILDERS)
def test_pods_are_restricted_and_hold_no_secret(module: Any) -> None:
    """Pod Security `restricted`, and secrets only by reference."""
    items = module.build(inputs())
    pod = workload(items)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is (module is postgres)
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
        assert "cpu" not in container["resources"].get("limits", {})
    assert of_kind(items, "Secret") == []
    assert len(of_kind(items, "NetworkPolicy")) == 1
    assert of_kind(items, "PodDisruptionBudget")[0]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("module", BUILDERS)
def test_rendering_is_stable(module: Any) -> None:
    """The same inputs give the same objects, so an unchanged spec restarts nothing."""
    assert json.dumps(module.build(inputs())) == json.dumps(module.build(inputs()))


def test_each_redis_pod_has_a_service_of_its_own() -> None:
    """With an address that is there before the pod is ready."""
    services = {item["metadata"]["name"]: item["spec"] for item in of_kind(redis.build(inputs()), "Service")}
    assert set(services) == {"sb-redis", *(f"sb-redis-{ordinal}" for ordinal in range(6))}
    for pod in redis.pod_names("sb", inputs().spec.redis):
        assert services[pod]["selector"]["statefulset.kubernetes.io/pod-name"] == pod
        assert services[pod]["publishNotReadyAddresses"] is True


def test_redis_refuses_writes_rather_than_evict() -> None:
    """A ranking with holes would be wrong."""
    lines = redis.configuration(inputs().spec.redis).splitlines()
    assert "maxmemory-policy noeviction" in lines
    assert "appendfsync everysec" in lines
    assert "maxmemory 153mb" in lines


def test_nats_syncs_every_message_to_disk() -> None:
    """And knows all its servers."""
    text = nats.configuration(inputs())
    assert "sync_interval: always" in text
    assert "routes: [$ROUTE_0, $ROUTE_1, $ROUTE_2]" in text
    assert "cluster {" not in nats.configuration(inputs(nats={"replicas": 1}))


@pytest.mark.parametrize(
    ("mode", "expected"), [("Preferred", (True, False)), ("Strict", (True, True)), ("Off", (False, False))]
)
def test_synchronous_modes(mode: str, expected: tuple[bool, bool]) -> None:
    """As Patroni names them."""
    shared = patroni.dynamic_configuration(inputs(postgres={"synchronous": mode, "instances": 3}).spec.postgres)
    assert (shared["synchronous_mode"], shared["synchronous_mode_strict"]) == expected


def test_another_synchronous_mode_restarts_no_database() -> None:
    """It reaches the running cluster through Patroni."""
    templates = [
        workload(postgres.build(inputs(postgres={"synchronous": mode})))["spec"]["template"]
        for mode in ("Preferred", "Off")
    ]
    assert templates[0] == templates[1]


def test_patroni_may_touch_only_its_own() -> None:
    """Writes to ConfigMaps and pods are limited to names."""
    (role,) = of_kind(postgres.build(inputs()), "Role")
    for rule in role["rules"]:
        assert "*" not in [*rule["verbs"], *rule["resources"]]
        if {"update", "patch", "delete"} & set(rule["verbs"]):
            assert all(name.startswith("sb-postgres-") for name in rule["resourceNames"])


def test_limits_come_from_the_spec_and_roll_the_limiter_only() -> None:
    """A changed limit changes the rate-limit service's template and nothing of the gateway."""
    changed = {"security": {"readsPerIPPerMinute": 7}}
    assert ratelimit.limits(inputs(**changed).spec.security)["descriptors"][0]["descriptors"][0]["rate_limit"] == {
        "unit": "minute",
        "requests_per_unit": 7,
    }

    def mark(module: Any, **spec: Any) -> str:
        annotations = workload(module.build(inputs(**spec)))["spec"]["template"]["metadata"]["annotations"]
        return str(annotations[CONFIG_CHECKSUM])

    assert mark(ratelimit) != mark(ratelimit, **changed)
    assert mark(gateway) == mark(gateway, **changed)


def test_new_public_keys_roll_the_gateway() -> None:
    """Envoy reads them at its start."""
    marks = set()
    for keys in ("a", "b"):
        given = Inputs(**{**inputs().__dict__, "secret_checksums": {"jwks": keys}})
        marks.add(workload(gateway.build(given))["spec"]["template"]["metadata"]["annotations"][CONFIG_CHECKSUM])
    assert len(marks) == 2


def test_only_what_the_service_cannot_have_seen_is_sent_twice() -> None:
    """No route that takes POST repeats a request after it was sent."""
    (host,) = envoy_routes.route_configuration()["virtual_hosts"]
    for route in host["routes"]:
        methods = str(route["match"].get("headers", ""))
        if "route" in route and "GET" not in methods:
            assert route["route"]["retry_policy"]["retry_on"] == "connect-failure,refused-stream"


def test_no_route_rewrites_the_path() -> None:
    """The client has signed it."""
    text = json.dumps(envoy_routes.route_configuration())
    assert "rewrite" not in text
    assert "redirect" not in text


@pytest.mark.parametrize(
    ("quantity", "value"), [("250m", 0.25), ("2", 2), ("1.5Gi", 1.5 * 2**30), ("100M", 1e8), ("64Ki", 65536)]
)
def test_quantities(quantity: str, value: float) -> None:
    """Kubernetes quantities in their base unit."""
    assert stateful.amount(quantity) == value
