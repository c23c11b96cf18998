"""Makes the CustomResourceDefinition from the typed model: `python -m podium_operator.crd FILE…` writes it.

The rendering is pure. A test compares the files with it, so the resource and the code cannot drift apart.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from podium_operator.spec import JSON, ScoreboardSpec
from podium_operator.status import ScoreboardStatus

GROUP = "podium.dev"
VERSION = "v1alpha1"
PLURAL = "scoreboards"
KIND = "Scoreboard"
API_VERSION = f"{GROUP}/{VERSION}"

NAME_RULE = {
    "rule": "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "message": "the name prefixes the names of Services: use at most 40 characters of a-z, 0-9 and -, a letter first",
}

COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether it serves as specified"),
    ("Version", "string", ".status.version", "Application version that runs"),
    ("Players", "integer", ".status.players", "Players with a score"),
    ("Connections", "integer", ".status.connections", "Live connections"),
    ("URL", "string", ".status.url", "Where it is reached"),
    ("Age", "date", ".metadata.creationTimestamp", "Time since it was made"),
)


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Structural defaults by property, written out in full because CEL rules are checked on them as they stand."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            found[field.alias or name] = value.model_dump(by_alias=True, exclude_none=True)
        elif isinstance(value, list):
            found[field.alias or name] = [item.model_dump(by_alias=True, exclude_none=True) for item in value]
        elif value is not None:
            found[field.alias or name] = value
    return found


def _models(model: type[BaseModel], seen: dict[str, type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """All models that are reachable from this one, by name."""
    if model.__name__ not in seen:
        seen[model.__name__] = model
        for field in model.model_fields.values():
            for candidate in _types(field.annotation):
                _models(candidate, seen)
    return seen


def _types(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _types(argument)]


def _structural(schema: JSON, models: dict[str, type[BaseModel]], definitions: JSON) -> JSON:
    """JSON Schema as Pydantic writes it → the structural form: references resolved, null and titles removed."""
    schema = dict(schema)
    model = None
    if "$ref" in schema:
        name = schema.pop("$ref").rpartition("/")[2]
        model = models[name]
        schema = {**definitions[name], **schema}
    if "anyOf" in schema:
        (only,) = [option for option in schema.pop("anyOf") if option != {"type": "null"}]
        return _structural({**only, **schema}, models, definitions)
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.pop("additionalProperties", None)
    schema.pop("title", None)
    if schema.pop("default", None) is not None and model is not None:
        schema.pop("default", None)
    if "properties" in schema:
        schema.pop("additionalProperties", None)
        owner = model or models[""]
        defaults = _defaults(owner)
        schema["properties"] = {
            name: {
                **_structural(value, models, definitions),
                **({"default": defaults[name]} if name in defaults else {}),
            }
            for name, value in schema["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = _structural(schema[key], models, definitions)
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    return schema


def schema_of(model: type[BaseModel]) -> JSON:
    """Structural schema of a model."""
    raw = model.model_json_schema(by_alias=True)
    definitions = raw.pop("$defs", {})
    models = {**_models(model, {}), "": model}
    return _structural(raw, models, definitions)


def definition() -> JSON:
    """The whole CustomResourceDefinition."""
    defaults = ScoreboardSpec().model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "podium", "app.kubernetes.io/component": "crd"},
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["sb"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": text}
                        for name, kind, path, text in COLUMNS
                    ],
                    "schema": {
                        "openAPIV3Schema": {
                            "description": "A live scoreboard: its stores, services and gateway.",
                            "type": "object",
                            "x-kubernetes-validations": [NAME_RULE],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": {**schema_of(ScoreboardSpec), "default": defaults},
                                "status": schema_of(ScoreboardStatus),
                            },
                        }
                    },
                }
            ],
        },
    }


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml() -> str:
    """The definition as the files hold it."""
    head = "# Made from operator/podium_operator/spec.py by `python -m podium_operator.crd`; do not edit.\n"
    return head + yaml.dump(definition(), Dumper=_Plain, sort_keys=False, width=118, allow_unicode=True)


if __name__ == "__main__":
    for target in sys.argv[1:]:
        Path(target).write_text(as_yaml(), encoding="utf-8")
