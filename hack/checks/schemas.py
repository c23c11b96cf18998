"""JSON schemas for kubeconform, made from an API server's own OpenAPI, so they fit its version and its CRDs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

_PREFIX = "#/definitions/"


def write(openapi: Schema, directory: Path) -> int:
    """Write a strict schema for every kind of a Swagger 2.0 document; returns how many.

    The file names are those of kubeconform's template ``{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json``.
    """
    definitions = {name: _strict(definition) for name, definition in openapi["definitions"].items()}
    for name in (each for each in definitions if each.endswith(".resource.Quantity")):
        definitions[name] = {"type": ["string", "number"]}
    count = 0
    for name, definition in openapi["definitions"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            needed = {each: definitions[each] for each in _closure(name, definitions)}
            group = kind["group"].split(".")[0]
            parts = [kind["kind"].lower(), *([group] if group else []), kind["version"]]
            schema = {"$ref": _PREFIX + name, "definitions": needed}
            (directory / f"{'-'.join(parts)}.json").write_text(json.dumps(schema))
            count += 1
    return count


def _strict(definition: Schema) -> Schema:
    """The definition with unknown fields refused, and with what OpenAPI says in words said in JSON Schema."""
    if definition.get("format") == "int-or-string" or definition.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    result = {key: value for key, value in definition.items() if not key.startswith("x-")}
    if "properties" in definition:
        result["properties"] = {key: _strict(value) for key, value in definition["properties"].items()}
        if not definition.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(definition.get(key), dict):
            result[key] = _strict(definition[key])
    return result


def _closure(name: str, definitions: dict[str, Schema]) -> set[str]:
    """A definition and all that it refers to."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += _references(definitions[current])
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"].removeprefix(_PREFIX)] if isinstance(value.get("$ref"), str) else []
    return own + [name for item in value.values() for name in _references(item)]
