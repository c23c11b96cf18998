"""The CRD files are what the model says, and the API server's rules for schemas hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from podium_operator.crd import as_yaml, definition
from podium_operator.spec import JSON

ROOT = Path(__file__).parents[3]
FILES = ["crds/scoreboards.podium.dev.yaml", "charts/podium-crds/templates/scoreboards.podium.dev.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_files_are_made_from_the_model(name: str) -> None:
    """`python -m podium_operator.crd FILE…` was run after the last change."""
    assert (ROOT / name).read_text(encoding="utf-8") == as_yaml()


def _schema() -> JSON:
    schema: JSON = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _fields(schema: JSON, path: str = "") -> Iterator[tuple[str, JSON]]:
    for name, value in schema.get("properties", {}).items():
        yield f"{path}.{name}", value
        yield from _fields(value, f"{path}.{name}")
    if "items" in schema:
        yield from _fields(schema["items"], f"{path}[]")


def test_every_field_is_documented() -> None:
    """`kubectl explain` answers for each field of spec and status."""
    schema = _schema()["properties"]
    for part in ("spec", "status"):
        undocumented = [path for path, field in _fields(schema[part], part) if not field.get("description")]
        assert undocumented == []


def test_the_schema_is_structural() -> None:
    """Types everywhere, no references, no null, properties never closed by additionalProperties."""
    text = yaml.safe_dump(_schema())
    assert "$ref" not in text
    assert "anyOf" not in text
    for path, field in _fields(_schema()):
        assert "type" in field, path
        assert not ("properties" in field and "additionalProperties" in field), path


def test_every_rule_helps() -> None:
    """A CEL rule comes with a sentence."""
    rules = [rule for _, field in _fields(_schema()) for rule in field.get("x-kubernetes-validations", [])]
    assert len(rules) > 5
    assert all(len(rule["message"].split()) >= 5 for rule in rules)


def test_printer_columns() -> None:
    """What `kubectl get scoreboards` shows."""
    columns = definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns] == ["Ready", "Version", "Players", "Connections", "URL", "Age"]
