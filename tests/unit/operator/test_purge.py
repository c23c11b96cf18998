"""What `spec.cdn.purge` changes in the rendered objects, and what is said about its Secret."""

from __future__ import annotations

from typing import Any

import pytest

from podium_operator.builders import config, purge, services
from podium_operator.spec import JSON, ScoreboardSpec
from tests.unit.operator.golden import inputs


def spec(**changes: Any) -> JSON:
    """A spec that purges."""
    return {"cdn": {"purge": {"url": "https://edge.example/purge", "secretRef": {"name": "edge"}, **changes}}}


def rendered(given: JSON | None = None) -> dict[tuple[str, str], JSON]:
    """All objects of the application by kind and name."""
    made = [*config.build(inputs(given)), *services.build(inputs(given))]
    return {(item["kind"], item["metadata"]["name"]): item for item in made}


def test_only_the_projector_knows_of_it() -> None:
    """Its pods and its way out change, and nothing of the others: neither the address nor the token concerns them."""
    before, after = rendered(), rendered(spec())
    changed = {kind_and_name for kind_and_name in after if before.get(kind_and_name) != after[kind_and_name]}
    assert changed == {("Deployment", "arcade-projector"), ("NetworkPolicy", "arcade-projector")}


def test_the_token_is_a_file_that_may_be_missing() -> None:
    """A pod starts without it, and no environment entry holds it."""
    pod = rendered(spec())["Deployment", "arcade-projector"]["spec"]["template"]["spec"]
    (volume,) = (each for each in pod["volumes"] if each["name"] == "secret-purge")
    assert volume["secret"]["secretName"] == "edge"
    assert volume["secret"]["optional"] is True
    (container,) = pod["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "secret-purge")
    assert values["PODIUM_CDN_PURGE_TOKEN_FILE"] == f"{mount['mountPath']}/token"
    assert mount["readOnly"] is True


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://edge.example/purge", 443),
        ("http://varnish.edge", 80),
        ("http://varnish.edge:6081/purge", 6081),
        ("https://edge.example:8443/", 8443),
    ],
)
def test_the_way_out_is_to_the_port_of_the_address(url: str, port: int) -> None:
    """And to no other besides those of the stores."""
    rules = rendered(spec(url=url))["NetworkPolicy", "arcade-projector"]["spec"]["egress"]
    before = rendered()["NetworkPolicy", "arcade-projector"]["spec"]["egress"]
    assert [rule for rule in rules if rule not in before] == [{"ports": [{"port": port, "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "Secret edge does not exist; make it with the key token"),
        ({}, "Secret edge has no key token; add it"),
        ({"token": " \n"}, "Secret edge has no key token; add it"),
        ({"token": "two\nlines"}, "token must be one line of printable ASCII characters"),
        ({"token": "clé"}, "token must be one line of printable ASCII characters"),
        ({"token": "a-token\n"}, ""),
    ],
)
def test_what_is_wrong_with_the_secret_is_said(data: dict[str, str] | None, sentence: str) -> None:
    """In a sentence that says what to do and quotes nothing of it; a newline at the end is how files are."""
    found = purge.problem(ScoreboardSpec.model_validate(spec()), data)
    assert found.endswith(sentence)
    assert bool(found) == bool(sentence)


def test_nothing_is_said_where_nothing_is_purged() -> None:
    """No purge, no Secret."""
    assert purge.problem(ScoreboardSpec(), None) == ""
