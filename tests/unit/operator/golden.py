"""Golden files: a Scoreboard in, the rendered objects of each component out, both as YAML.

`UPDATE_GOLDEN=1 pytest tests/unit/operator` writes them anew; the diff is then for a person to judge.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from podium_operator.builders.base import Images, Inputs
from podium_operator.spec import JSON, ScoreboardSpec

FOLDER = Path(__file__).parent / "golden"

IMAGES = Images(
    podium="registry.test/podium:1.2.3",
    redis="registry.test/redis:7",
    nats="registry.test/nats:2",
    postgres="registry.test/postgres:15",
    envoy="registry.test/envoy:1",
    ratelimit="registry.test/ratelimit:1",
)


def inputs(spec: JSON | None = None, **changes: Any) -> Inputs:
    """Inputs of a builder for a spec in the form of the resource."""
    values: dict[str, Any] = {
        "name": "arcade",
        "namespace": "games",
        "spec": ScoreboardSpec.model_validate(spec or {}),
        "images": IMAGES,
        "version": "1.2.3",
        "secret_checksums": {"clients": "c1", "jwt": "j1", "signing": "s1", "jwks": "k1"},
    }
    return Inputs(**{**values, **changes})


def case(name: str) -> Inputs:
    """Inputs from `golden/<name>.scoreboard.yaml`."""
    return inputs(yaml.safe_load((FOLDER / f"{name}.scoreboard.yaml").read_text(encoding="utf-8"))["spec"])


def assert_golden(name: str, objects: list[JSON]) -> None:
    """The objects are those of `golden/<name>.yaml`."""
    path = FOLDER / f"{name}.yaml"
    text = yaml.safe_dump_all(objects, sort_keys=False, width=118, allow_unicode=True)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert list(yaml.safe_load_all(path.read_text(encoding="utf-8"))) == list(yaml.safe_load_all(text))
