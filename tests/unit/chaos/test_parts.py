"""The parts of a chaos run that decide without doing: limits, the shard's owner, the report."""

import json
import math
from pathlib import Path

from tests.chaos.damage import owner
from tests.chaos.faults import FAULTS
from tests.chaos.ledger import Verdict
from tests.chaos.limits import BENCH, MORE_BOARDS, VALUE_ACTION, bench_patch, boards_patch, undo_patch
from tests.chaos.recovery import Span
from tests.chaos.report import line, table, write
from tests.chaos.trial import Report

NODES = """\
aa 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-5460 5462
bb 10.0.0.2:6379@16379 master,fail - 0 0 2 disconnected 5461
cc 10.0.0.3:6379@16379 master - 0 0 3 connected 5461 5463-10922
dd 10.0.0.4:6379@16379 slave aa 0 0 1 connected
"""


def _report(recovery: float, verdict: Verdict) -> Report:
    return Report(
        "redis-wiped",
        recovery,
        0.5,
        [Span(0, recovery)],
        [],
        100,
        verdict,
        0.01,
        0.02,
        math.nan,
        1.2,
        {"503 dependency-unavailable": 2},
    )


def test_limits_are_those_of_the_bench_manifest_and_nobody_loses_access() -> None:
    """The clients stay as they are, for their secrets are the sample's own."""
    spec = bench_patch(BENCH.read_text())["spec"]
    assert spec["security"]["updatesPerUserPerMinute"] > 100
    assert "clients" not in spec["security"]


def test_boards_of_the_other_kinds_join_those_that_are_there() -> None:
    """Once each, behind the Scoreboard's own."""
    own = {"name": "default", "top": 10}
    win = {"type": "win", "points": 10}
    patch = boards_patch({"spec": {"boards": [own], "actions": [win]}})
    assert patch == {"spec": {"boards": [own, *MORE_BOARDS], "actions": [win, VALUE_ACTION]}}
    assert boards_patch(patch) == patch


def test_what_a_patch_changed_is_put_back() -> None:
    """Values that were there come back, others go."""
    patch = {"spec": {"security": {"a": 1, "b": 2}, "services": {"x": {"min": 2}}}}
    original = {"spec": {"security": {"a": 5, "c": 3}, "services": {"x": {"min": 1}}, "paused": False}}
    assert undo_patch(patch, original) == {"spec": {"security": {"a": 5, "b": None}, "services": {"x": {"min": 1}}}}


def test_the_owner_of_a_slot_is_a_primary_that_lives() -> None:
    """A failed primary is still listed with its slots."""
    assert owner(NODES, 0) == "10.0.0.1"
    assert owner(NODES, 5462) == "10.0.0.1"
    assert owner(NODES, 5461) == "10.0.0.3"
    assert owner(NODES, 9999) == "10.0.0.3"


def test_faults_have_names_of_their_own() -> None:
    """A name means one fault, and the short form has some of them."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert 5 < sum(fault.short for fault in FAULTS) < len(FAULTS)


def test_the_file_has_an_entry_for_each_time_a_fault_struck(tmp_path: Path) -> None:
    """In the published form, and nothing beside it."""
    dirty = Verdict(lost=["one"], double=["two", "three"])
    written = json.loads(write([_report(3.04, Verdict()), _report(5, dirty)], tmp_path / "build").read_text())
    assert written == {
        "faults": [
            {
                "name": "redis-wiped",
                "recoverySeconds": 3.0,
                "acknowledged": 100,
                "lost": 0,
                "double": 0,
                "differing": 0,
            },
            {"name": "redis-wiped", "recoverySeconds": 5, "acknowledged": 100, "lost": 1, "double": 2, "differing": 0},
        ]
    }


def test_the_table_sums_the_rounds() -> None:
    """Median and worst recovery; findings of all rounds together."""
    rows = table([_report(3, Verdict()), _report(5, Verdict(lost=["one"]))]).splitlines()
    assert rows[1].split() == ["redis-wiped", "2", "4.0", "5.0", "0.5", "200", "1", "0", "0", "10", "20", "1.2"]
    assert rows[2].split() == ["all", "2", "200", "1", "0", "0"]


def test_a_line_says_what_was_found_and_what_clients_met() -> None:
    """Findings come first."""
    assert "clean" in line(_report(3, Verdict()))
    assert "lost: one" in line(_report(3, Verdict(lost=["one"])))
    assert "too few accepted: 0.0–3.0 s; not shown: never" in line(_report(3, Verdict()))
    assert "2 503 dependency-unavailable" in line(_report(3, Verdict()))
