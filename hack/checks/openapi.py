"""Merges the OpenAPI documents of the four services into the one that is published; ``--check`` only compares.

The services do not import each other, so this build step is the one place that knows them all.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI

ROOT = Path(__file__).resolve().parents[2]
for folder in ("services", "operator"):
    sys.path.insert(0, str(ROOT / folder))

from podium_operator import secret_data  # noqa: E402

TARGET = ROOT / "services/podium/scoreboard/static/openapi.json"
SERVICES = ("scores", "scoreboard", "auth", "analytics")
PUBLIC_PREFIXES = ("/api/v1/", "/.well-known/")
"""Paths that the gateway lets through and that are worth a description; pages are not."""

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})

Document = dict[str, Any]


class ConflictError(ValueError):
    """Two services describe the same name differently."""


def merge(parts: dict[str, Document]) -> Document:
    """One document of several services' documents.

    Raises ConflictError where two services serve the same operation, or give one component name two meanings.
    """
    first = next(iter(parts.values()))
    merged: Document = {
        "openapi": first["openapi"],
        "info": {
            "title": "Podium",
            "version": first["info"]["version"],
            "description": "Live scoreboards: sessions, signed score updates, rankings, administration, analytics.",
        },
        "paths": {},
        "components": {},
        "tags": [],
    }
    for service, part in parts.items():
        for path, item in part["paths"].items():
            if path.startswith(PUBLIC_PREFIXES):
                known = merged["paths"].setdefault(path, {})
                for key, value in item.items():
                    if key in known:
                        raise ConflictError(f"{key} {path} is served twice; {service} is the second")
                    known[key] = _tagged(value, service) if key in METHODS else value
        for section, entries in part.get("components", {}).items():
            for name, entry in entries.items():
                if merged["components"].setdefault(section, {}).setdefault(name, entry) != entry:
                    raise ConflictError(f"#/components/{section}/{name} of {service} differs from another service's")
    merged["paths"] = dict(sorted(merged["paths"].items()))
    merged["tags"] = [{"name": service} for service in parts]
    return merged


def _tagged(operation: Document, service: str) -> Document:
    return operation if operation.get("tags") else {**operation, "tags": [service]}


def use_throwaway_secrets() -> None:
    """Give the apps keys to be made with; they sign nothing, and no document shows them."""
    made = secret_data.generated()
    os.environ |= {
        "PODIUM_JWT_KEYS": made["jwt"]["keys.json"],
        "PODIUM_JWT_JWKS": secret_data.public_keys(made["jwt"]["keys.json"]),
        "PODIUM_SIGNING_MASTER": made["signing"]["master.json"],
    }


def document_of(service: str) -> Document:
    """How a service documents itself; made in a process of its own, as no two services ever share one."""
    command = [sys.executable, __file__, "--only", service]
    document: Document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return document


def own_document(service: str) -> Document:
    """The service's document, in this process; nothing connects until the app is started."""
    use_throwaway_secrets()
    app = importlib.import_module(f"podium.{service}.app").create_app()
    assert isinstance(app, FastAPI)
    return app.openapi()


def main() -> int:
    """Write the document, or compare; 1 if ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the published document")
    parser.add_argument("--only", choices=SERVICES, help="print one service's own document")
    options = parser.parse_args()
    if options.only:
        json.dump(own_document(options.only), sys.stdout)
        return 0
    document = merge({service: document_of(service) for service in SERVICES})
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if not options.check:
        TARGET.write_text(text, encoding="utf-8")
        print(f"{len(document['paths'])} paths written to {TARGET.relative_to(ROOT)}")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET.relative_to(ROOT)} is not what the services say: run `make openapi` and commit it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
