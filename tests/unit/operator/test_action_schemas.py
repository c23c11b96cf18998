"""Schemas of actions that the API server takes, but that no validator can use."""

from __future__ import annotations

import pytest

from podium_operator import action_schemas
from podium_operator.spec import JSON, ScoreboardSpec


def _problem(*schemas: JSON) -> str:
    actions = [{"type": f"a{number}", "points": 1, "schema": schema} for number, schema in enumerate(schemas)]
    return action_schemas.problem(ScoreboardSpec.model_validate({"actions": [*actions, {"type": "none", "points": 1}]}))


@pytest.mark.parametrize(
    "schema", [{}, {"type": "object", "required": ["level"]}, {"$ref": "#/$defs/a", "$defs": {"a": {}}}]
)
def test_usable_schemas_are_no_problem(schema: JSON) -> None:
    """Neither is an action without a schema."""
    assert _problem(schema) == ""


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": 5}, "actions[a0].schema.type is no usable"),
        ({"type": "objekt"}, "actions[a0].schema.type is no usable"),
        ({"properties": {"level": {"minimum": "x"}}}, "actions[a0].schema.properties.level.minimum is no usable"),
        ({"properties": {"name": {"pattern": "("}}}, "actions[a0].schema.properties.name.pattern is no usable"),
        ({"$ref": "#/nowhere"}, "actions[a0].schema is no usable"),
        ({"$ref": "http://127.0.0.1/schema.json"}, "cannot fetch"),
        ({"$schema": "http://127.0.0.1/other"}, "Unknown meta-schema"),
    ],
)
def test_the_sentence_names_the_field(schema: JSON, place: str) -> None:
    """So a person finds it in the spec."""
    assert place in _problem(schema)


def test_each_unusable_schema_has_its_sentence() -> None:
    """One look tells of all of them."""
    assert _problem({"type": 5}, {}, {"required": "x"}).count("correct or remove it") == 2
