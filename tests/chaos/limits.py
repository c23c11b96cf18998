"""Prepare a Scoreboard for the time of a run.

The limits that a load from one address meets are lifted to those of ``examples/bench.yaml``, and boards of the other
kinds are added, with an action whose value the player names.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.chaos.ledger import BEST, LATEST, VALUE
from tests.support.instance import ROOT, Instance

MORE_BOARDS = (
    {"name": BEST, "operator": "Best", "top": 10},
    {"name": LATEST, "operator": "Latest", "top": 10},
)
"""Boards beside the Scoreboard's own."""

VALUE_ACTION = {
    "type": VALUE,
    "pointsFrom": {"field": "value", "min": 0, "max": 9007199254740991},
    "boards": [BEST, LATEST],
}
"""The action that counts for them."""

BENCH = ROOT / "examples" / "bench.yaml"

Tree = dict[str, Any]


def bench_patch(text: str) -> Tree:
    """The merge patch (RFC 7386) that brings a Scoreboard's limits and sizes to those of a bench manifest."""
    manifest = next(each for each in yaml.safe_load_all(text) if each["kind"] == "Scoreboard")
    spec = manifest["spec"]
    security = {name: value for name, value in spec["security"].items() if name != "clients"}
    return {"spec": {"security": security, "services": spec["services"], "observability": spec["observability"]}}


def undo_patch(patch: Tree, original: Tree) -> Tree:
    """The merge patch that puts back what ``patch`` changes in ``original``."""
    undo: Tree = {}
    for name, value in patch.items():
        there = original.get(name)
        undo[name] = undo_patch(value, there) if isinstance(value, dict) and isinstance(there, dict) else there
    return undo


def boards_patch(original: Tree) -> Tree:
    """The merge patch that adds boards, and the action for them, to a Scoreboard."""
    boards, actions = original["spec"]["boards"], original["spec"]["actions"]
    names = {board["name"] for board in boards}
    types = {action["type"] for action in actions}
    return {
        "spec": {
            "boards": [*boards, *(board for board in MORE_BOARDS if board["name"] not in names)],
            "actions": [*actions, *(action for action in [VALUE_ACTION] if action["type"] not in types)],
        }
    }


@contextlib.contextmanager
def lifted(instance: Instance) -> Iterator[None]:
    """The Scoreboard with lifted limits and more boards inside the block, rolled out."""
    original = instance.scoreboard()
    patch = {"spec": bench_patch(BENCH.read_text())["spec"] | boards_patch(original)["spec"]}
    _patch(instance, patch)
    try:
        instance.wait_settled()
        yield
    finally:
        _patch(instance, undo_patch(patch, original))


def _patch(instance: Instance, patch: Tree) -> None:
    target = ("patch", "scoreboards.podium.dev", instance.name, "--type=merge", "--patch-file=/dev/stdin")
    instance.kubectl(*target, given=json.dumps(patch))
