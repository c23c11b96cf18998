"""Specification of what the fan-out bench makes of its measurements."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from podium.scoreboard.domain import decode_snapshot
from tests.load.fanout import OWN_FILES, parse, raise_file_limit, rate_for
from tests.load.fanout_client import CONNECTIONS_PER_SOURCE, Quantiles, Report, Returns, report_of, sources
from tests.load.fanout_results import Run, describe, ratios, row_of
from tests.load.fanout_run import payload
from tests.load.fanout_servers import FLOOR, SERVERS, Pipe
from tests.load.machine import cpu_seconds, own_cpu_seconds
from tests.load.rounds import Row

REPORT = Report(
    connections=100,
    broadcasts=50,
    deliveries=5000,
    skipped=0,
    heartbeats=0,
    pings=0,
    faults={},
    complete=True,
    delivery=Quantiles(1.0, 2.0, 3.0),
    until_last=Quantiles(2.0, 4.0, 5.0),
    cpu_seconds=0.01,
    rankings=None,
)
RUN = Run(
    connections=100,
    connect_cpu=0.05,
    connect_seconds=0.2,
    idle_cpu=0.03,
    idle_seconds=30.0,
    memory_before=50 << 20,
    memory_idle=52 << 20,
    beats=200,
    published=50,
    cpu=0.025,
    report=REPORT,
    flaws={},
)


def test_a_run_is_told_for_each_delivery_and_each_connection() -> None:
    """CPU by what arrived, not by what was sent."""
    assert RUN.cpu_micros_per_delivery == pytest.approx(5.0)
    assert RUN.kib_per_connection == pytest.approx(20.48)
    assert RUN.upgrades_per_cpu_second == pytest.approx(2000)
    assert RUN.idle_percent == pytest.approx(0.1)
    assert RUN.complete


@pytest.mark.parametrize(
    "run",
    [
        replace(RUN, flaws={"two snapshots of one version differ": 1}),
        replace(RUN, report=replace(REPORT, connections=99)),
        replace(RUN, report=replace(REPORT, complete=False)),
    ],
)
def test_a_fault_in_any_phase_makes_a_row_incomplete(run: Run) -> None:
    """One bad round is enough."""
    row = row_of("podium", [RUN, run, RUN])
    assert row["complete"] is False
    assert "NOT COMPLETE" in describe("podium", run)


def test_skipped_and_conflated_snapshots_are_counted_and_no_fault() -> None:
    """A slow client skips to the newest; a fast publisher is conflated."""
    run = replace(RUN, published=60, report=replace(REPORT, skipped=7))
    row = row_of("podium", [run, run])
    assert (row["skipped"], row["conflated"], row["complete"]) == (14, 20, True)
    assert "10 conflated, 7 skipped" in describe("podium", run)


def test_rows_are_medians() -> None:
    """Of time until the last connection has a snapshot, too."""
    slow = replace(RUN, cpu=0.25, report=replace(REPORT, until_last=Quantiles(9.0, 99.0, 100.0)))
    row = row_of("podium", [RUN, slow, RUN])
    assert (row["cpuMicrosPerDelivery"], row["p50Ms"], row["p99Ms"]) == (5.0, 2.0, 4.0)


def _row(name: str, connections: int, **values: float) -> Row:
    costs = {"cpuMicrosPerDelivery": 5.0, "p99Ms": 10.0, "rssKiBPerConnection": 16.0, "idleCpuPercent": 0.5}
    return {"name": name, "connections": connections, **costs, "upgradesPerCpuSecond": 4000.0, **values}


def test_ratios_have_the_opponent_and_the_number_of_connections_in_their_names() -> None:
    """Where one number stands for several sizes it is the worst."""
    rows = [
        _row("podium", 2000),
        _row("centrifuge", 2000, cpuMicrosPerDelivery=10.0, rssKiBPerConnection=32.0),
        _row("floor", 2000, cpuMicrosPerDelivery=4.0, rssKiBPerConnection=0.1, idleCpuPercent=0.0),
        _row("podium", 8000),
        _row("centrifuge", 8000, cpuMicrosPerDelivery=20.0, rssKiBPerConnection=20.0, upgradesPerCpuSecond=5000.0),
    ]
    found = ratios(rows)
    assert found["cpuVsCentrifuge2000"] == 0.5
    assert found["cpuVsCentrifuge8000"] == 0.25
    assert found["cpuVsFloor2000"] == 1.25
    assert found["p99VsCentrifuge2000"] == 1.0
    assert found["rssVsCentrifuge"] == 0.8
    assert found["upgradesPerCpuSecondVsCentrifuge"] == 0.8
    assert "cpuVsFloor8000" not in found
    assert "cpuVsPlain2000" not in found


def test_ratios_need_podium_and_an_opponent() -> None:
    """A short look measures some only."""
    assert ratios([_row("centrifuge", 100)]) == {}
    assert ratios([_row("podium", 100)]) == {}


def test_the_payload_is_a_projectors_snapshot() -> None:
    """Ten users, some 700 bytes, a time with microseconds."""
    data = payload(12345)
    snapshot = decode_snapshot(data)
    assert snapshot.age == (1, 12345)
    assert [place.rank for place in snapshot.rankings] == list(range(1, 11))
    assert [place.score for place in snapshot.rankings] == sorted((p.score for p in snapshot.rankings), reverse=True)
    assert len(snapshot.last_updated) == len("2026-01-01T00:00:00.000000Z")
    assert 680 <= len(data) <= 720


def test_the_rate_keeps_the_deliveries() -> None:
    """What is asked of a server in a second does not grow with the connections."""
    assert (rate_for(100), rate_for(2000), rate_for(8000)) == (18.0, 18.0, 5.0)


def test_one_local_address_is_enough_until_its_ports_are_used_up() -> None:
    """Each further one is of the loopback network."""
    assert sources(CONNECTIONS_PER_SOURCE, "127.0.0.1:80") == ["127.0.0.1"]
    assert sources(CONNECTIONS_PER_SOURCE + 1, "10.0.0.1:80") == []
    assert sources(2 * CONNECTIONS_PER_SOURCE + 1, "127.0.0.1:80") == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]


def test_a_report_is_read_from_the_clients_json() -> None:
    """Names are those that the client writes."""
    quantiles = {"p50Ms": 1.0, "p99Ms": 2.0, "maxMs": 3.0}
    counts = {"connections": 100, "broadcasts": 50, "deliveries": 5000, "skipped": 0, "heartbeats": 0, "pings": 0}
    rest = {"faults": {}, "complete": True, "untilLast": {"p50Ms": 2.0, "p99Ms": 4.0, "maxMs": 5.0}, "cpuSeconds": 0.01}
    answer = {**counts, **rest, "delivery": quantiles, "returns": None, "rankings": None}
    assert report_of(json.loads(json.dumps(answer))) == REPORT
    returns = {"count": 5, "away": 1, "awayMost": 6, "lost": {"cut": 6}, "failures": {"503": 2}, "mostInASecond": 4}
    returned = {**returns, "seconds": 1.5, "gap": quantiles, "timeline": [[6, 1], [0, 4]]}
    told = report_of(json.loads(json.dumps({**answer, "returns": returned}))).returns
    assert told == Returns(5, 1, 6, {"cut": 6}, {"503": 2}, 4, 1.5, Quantiles(1.0, 2.0, 3.0), [(6, 1), (0, 4)])


def test_the_command_line() -> None:
    """What docs/benchmarks.md shows is understood."""
    options = parse(["--connections", "100", "--contenders", "podium", "floor", "--rounds", "1", "--idle", "2"])
    assert (options.connections, options.contenders, options.rounds, options.seconds) == (
        [100],
        ["podium", "floor"],
        1,
        10,
    )
    assert parse([]).contenders == list(SERVERS)


def test_a_limit_of_files_that_is_high_enough_stays() -> None:
    """It is raised only where it has to be."""
    raise_file_limit(1)
    assert OWN_FILES > 0


def test_a_pipe_carries_lines(tmp_path: Path) -> None:
    """Nobody has to read yet when it is written."""
    path = tmp_path / "pipe"
    pipe = Pipe(path)
    pipe.write(b"{}")
    with path.open("rb", buffering=0) as reader:
        assert reader.read(3) == b"{}\n"
    pipe.close()
    assert FLOOR.by_pipe


def test_a_process_has_one_account_of_its_cpu() -> None:
    """Its own clock says what /proc says, only finer."""
    pid = os.getpid()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert own_cpu_seconds(pid) == pytest.approx(time.process_time(), abs=0.05)
    assert own_cpu_seconds(pid) <= cpu_seconds([pid]) + 0.05
