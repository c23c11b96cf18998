"""Writes the field tables of ``docs/resource.md`` from the CRD; ``--check`` only compares."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CRD = ROOT / "crds" / "scoreboards.podium.dev.yaml"
PAGE = ROOT / "docs" / "resource.md"
BEGIN, END = "<!-- fields of spec: made by `make docs` -->\n", "<!-- end of fields -->\n"

Schema = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """One row of the table."""

    path: str
    kind: str
    default: str
    text: str


def fields(schema: Schema, prefix: str = "") -> Iterator[Field]:
    """The fields below a schema, depth first; ``[]`` marks the items of a list."""
    for name, child in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        item = child.get("items", {})
        if "properties" in child:
            yield Field(path, "", "", child.get("description", ""))
            yield from fields(child, f"{path}.")
        elif "properties" in item:
            yield Field(f"{path}[]", "list", _default(child), child.get("description", ""))
            yield from fields(item, f"{path}[].")
        else:
            required = name in schema.get("required", [])
            yield Field(path, _kind(child), "required" if required else _default(child), child.get("description", ""))


def table(rows: list[Field]) -> str:
    """The rows as a Markdown table."""
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.path}` | {row.kind} | {row.default} | {row.text} |" for row in rows]
    return "\n".join(lines) + "\n"


def filled(page: str, content: str) -> str:
    """The page with new content between the markers. Raises ValueError if they are not there."""
    head, found, rest = page.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{PAGE.name} lacks the markers around its field table")
    return head + BEGIN + "\n" + content + "\n" + END + tail


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return " ".join(f"`{value}`" for value in schema["enum"])
    if "items" in schema:
        return f"list of {_kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return "map"
    kind: str = schema.get("type", "any")
    bounds = [str(schema[key]) if key in schema else "" for key in ("minimum", "maximum")]
    return f"{kind} {bounds[0]}…{bounds[1]}" if any(bounds) else kind


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return "none" if value in ([], {}) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def main() -> int:
    """Write the page, or compare; 1 if ``--check`` finds a difference."""
    crd = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    page = PAGE.read_text(encoding="utf-8")
    text = filled(page, table(list(fields(spec))))
    if "--check" in sys.argv[1:]:
        if text != page:
            print(f"{PAGE.relative_to(ROOT)} is not what the CRD says: run `make docs` and commit it")
        return int(text != page)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
