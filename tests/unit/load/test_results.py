"""Specification of what the benches make of their measurements."""

import os
import subprocess
import sys

import pytest

from tests.load.__main__ import parse, split
from tests.load.machine import cpu_seconds, resident_bytes
from tests.load.rounds import Row
from tests.load.scoreboard import Keys, durable, environment
from tests.load.write import low_load_ratio, ratios, subject_of

ROWS: list[Row] = [
    {"name": "podium", "requestsPerSecond": 3000.0, "p50Ms": 10.0, "p99Ms": 20.0, "cpuMicrosPerRequest": 200.0},
    {"name": "podium-2", "requestsPerSecond": 4000.0, "p50Ms": 8.0, "p99Ms": 15.0, "cpuMicrosPerRequest": 250.0},
    {"name": "go", "requestsPerSecond": 2000.0, "p50Ms": 20.0, "p99Ms": 30.0, "cpuMicrosPerRequest": 500.0},
    {"name": "go-batched", "requestsPerSecond": 5000.0, "p50Ms": 5.0, "p99Ms": 9.0, "cpuMicrosPerRequest": 180.0},
]


def test_one_row_of_podium_is_compared_in_every_ratio() -> None:
    """That of the most throughput; no ratio may choose another."""
    assert subject_of(ROWS) == "podium-2"
    assert ratios(ROWS, "podium-2") == {
        "throughputVsGo": 2.0,
        "cpuVsGo": 0.5,
        "p99VsGo": 0.5,
        "throughputVsGoBatched": 0.8,
    }


def test_ratios_to_who_did_not_take_part_are_left_out() -> None:
    """A short look measures some contenders only."""
    assert ratios(ROWS[:1], "podium") == {}


def test_low_load_says_how_much_later_group_commit_answers() -> None:
    """In milliseconds; earlier is negative."""
    assert low_load_ratio([{"p50Ms": 2.5}, {"p50Ms": 2.0}]) == {"lowLoadP50VsUnbatchedMs": 0.5}


def test_the_processor_time_of_ended_children_counts() -> None:
    """PostgreSQL's backends come and go."""
    before = cpu_seconds([os.getpid()])
    subprocess.run([sys.executable, "-c", "sum(i * i for i in range(3_000_000))"], check=True)
    assert cpu_seconds([os.getpid()]) - before > 0.05
    assert resident_bytes([os.getpid()]) > 1_000_000


def test_the_stores_flush_as_the_operator_has_it() -> None:
    """No bench is fast because something is lost in a power cut."""
    overrides = durable()
    assert overrides.postgres["fsync"] == overrides.postgres["full_page_writes"] == "on"
    assert overrides.postgres["synchronous_commit"] == "on"
    assert overrides.redis["appendonly"] == "yes"
    assert overrides.jetstream["sync_interval"] == "always"


def test_the_example_lifts_the_limits_that_a_load_would_meet() -> None:
    """Contenders are told what the operator would tell the service."""
    values = environment()
    assert int(values["PODIUM_UPDATES_PER_USER_PER_MINUTE"]) == 1000
    assert '"win"' in values["PODIUM_ACTIONS"]
    assert not any(name.startswith(("PODIUM_DATABASE", "PODIUM_REDIS", "PODIUM_NATS")) for name in values)


def test_the_public_key_of_a_run_holds_nothing_private() -> None:
    """Services verify; only the generator signs."""
    assert '"d"' not in Keys.generate().environment()["PODIUM_JWT_JWKS"]


@pytest.mark.parametrize("arguments", [["write", "--pods", "1,2"], ["read"], ["all", "--storage-log-rows", "5"]])
def test_the_command_line(arguments: list[str]) -> None:
    """What docs/benchmarks.md shows is understood."""
    assert parse(arguments).rounds == 3


def test_rows_are_split_from_their_parts() -> None:
    """The file keeps the processor time of the parts beside the rows."""
    assert split({"name": "podium", "serviceMicros": 1.0}) == ({"name": "podium"}, {"serviceMicros": 1.0})
