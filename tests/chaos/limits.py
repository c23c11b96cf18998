"""Lift, for the time of a run, the limits that a load from one address meets: those of ``examples/bench.yaml``."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.support.instance import ROOT, Instance

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


@contextlib.contextmanager
def lifted(instance: Instance) -> Iterator[None]:
    """The Scoreboard with lifted limits inside the block, rolled out."""
    original = instance.scoreboard()
    patch = bench_patch(BENCH.read_text())
    _patch(instance, patch)
    try:
        instance.wait_settled()
        yield
    finally:
        _patch(instance, undo_patch(patch, original))


def _patch(instance: Instance, patch: Tree) -> None:
    target = ("patch", "scoreboards.podium.dev", instance.name, "--type=merge", "--patch-file=/dev/stdin")
    instance.kubectl(*target, given=json.dumps(patch))
