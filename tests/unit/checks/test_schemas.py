"""Schemas for kubeconform: strict, complete, and named as it looks for them."""

import json
from pathlib import Path

import jsonschema_rs
import pytest

from checks import schemas

OPENAPI = {
    "definitions": {
        "api.Thing": {
            "type": "object",
            "properties": {"spec": {"$ref": "#/definitions/api.ThingSpec"}, "kind": {"type": "string"}},
            "x-kubernetes-group-version-kind": [{"group": "things.example.com", "version": "v1", "kind": "Thing"}],
        },
        "api.ThingSpec": {
            "type": "object",
            "properties": {
                "port": {"type": "string", "format": "int-or-string"},
                "cpu": {"$ref": "#/definitions/io.k8s.resource.Quantity"},
            },
        },
        "io.k8s.resource.Quantity": {"type": "string"},
        "api.Unrelated": {"type": "object"},
    }
}


@pytest.fixture
def thing(tmp_path: Path) -> jsonschema_rs.Validator:
    """The schema of ``Thing``."""
    assert schemas.write(OPENAPI, tmp_path) == 1
    schema = json.loads((tmp_path / "thing-things-v1.json").read_text())
    assert set(schema["definitions"]) == {"api.Thing", "api.ThingSpec", "io.k8s.resource.Quantity"}
    return jsonschema_rs.validator_for(schema)


def test_what_the_server_takes_is_valid(thing: jsonschema_rs.Validator) -> None:
    """Ports may be names or numbers, quantities too."""
    assert thing.is_valid({"kind": "Thing", "spec": {"port": "http", "cpu": 1}})
    assert thing.is_valid({"kind": "Thing", "spec": {"port": 80, "cpu": "100m"}})


def test_unknown_fields_are_refused(thing: jsonschema_rs.Validator) -> None:
    """A misspelt field does not pass, at any depth."""
    assert not thing.is_valid({"kind": "Thing", "specs": {}})
    assert not thing.is_valid({"kind": "Thing", "spec": {"prot": 80}})
