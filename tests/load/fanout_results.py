"""What the fan-out bench makes of its measurements: rows, ratios, lines for who waits. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.load.fanout_client import Report
from tests.load.rounds import Row, median

SUBJECT = "podium"
CENTRIFUGE = "centrifuge"
_OPPONENTS = {"Centrifuge": CENTRIFUGE, "Floor": "floor", "Plain": "fastapi-loop"}


@dataclass(frozen=True)
class Run:
    """One measured run of a server with ``connections`` wanted ones.

    CPU seconds of the server: while connections were opened, while they were idle for ``idle_seconds``, and for the
    broadcasts. Memory in bytes, before the first connection and with all of them idle. ``beats`` are heartbeats and
    pings to idle connections. ``flaws`` are errors and faults of all phases.
    """

    connections: int
    connect_cpu: float
    connect_seconds: float
    idle_cpu: float
    idle_seconds: float
    memory_before: int
    memory_idle: int
    beats: int
    published: int
    cpu: float
    report: Report
    flaws: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Every connection was opened and had every broadcast or a newer one, and nothing was wrong."""
        return self.report.complete and self.report.connections == self.connections and not self.flaws

    @property
    def cpu_micros_per_delivery(self) -> float:
        """CPU of the server for one snapshot to one connection, in microseconds."""
        return self.cpu / max(self.report.deliveries, 1) * 1e6

    @property
    def kib_per_connection(self) -> float:
        """Resident memory that an idle connection added, in KiB."""
        return (self.memory_idle - self.memory_before) / self.connections / 1024

    @property
    def upgrades_per_cpu_second(self) -> float:
        """Connections opened with one second of the server's CPU."""
        return self.connections / max(self.connect_cpu, 1e-6)

    @property
    def idle_percent(self) -> float:
        """CPU of all idle connections, in percent of one core; 0 where it was not measured."""
        return 100 * self.idle_cpu / self.idle_seconds if self.idle_seconds else 0.0

    @property
    def conflated(self) -> int:
        """Published snapshots that no connection got, for a newer one stood for them."""
        return self.published - self.report.broadcasts


def row_of(name: str, runs: Sequence[Run]) -> Row:
    """One row of a result: medians over the rounds, complete only if every round was."""
    return {
        "name": name,
        "connections": runs[0].connections,
        "cpuMicrosPerDelivery": median(run.cpu_micros_per_delivery for run in runs),
        "p50Ms": median(run.report.until_last.p50_ms for run in runs),
        "p99Ms": median(run.report.until_last.p99_ms for run in runs),
        "deliveryP50Ms": median(run.report.delivery.p50_ms for run in runs),
        "deliveryP99Ms": median(run.report.delivery.p99_ms for run in runs),
        "rssKiBPerConnection": median(run.kib_per_connection for run in runs),
        "idleCpuPercent": median(run.idle_percent for run in runs),
        "upgradesPerCpuSecond": median(run.upgrades_per_cpu_second for run in runs),
        "skipped": sum(run.report.skipped for run in runs),
        "conflated": sum(run.conflated for run in runs),
        "complete": all(run.complete for run in runs),
    }


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Podium beside the others, for each number of connections; below 1 is less.

    Memory, idle CPU and upgrades have one ratio each: the worst over the numbers of connections. There is none to what
    did not take part, or cost nothing.
    """
    found: dict[str, float] = {}
    sizes = sorted({int(row["connections"]) for row in rows})
    for label, opponent in _OPPONENTS.items():
        for size in sizes:
            for name, key in (("cpu", "cpuMicrosPerDelivery"), ("p99", "p99Ms")):
                ratio = _ratio(rows, opponent, size, key)
                if ratio is not None:
                    found[f"{name}Vs{label}{size}"] = ratio
    for name, key, worst in (
        ("rss", "rssKiBPerConnection", max),
        ("idleCpu", "idleCpuPercent", max),
        ("upgradesPerCpuSecond", "upgradesPerCpuSecond", min),
    ):
        each = [_ratio(rows, CENTRIFUGE, size, key) for size in sizes]
        known = [ratio for ratio in each if ratio is not None]
        if known:
            found[f"{name}VsCentrifuge"] = worst(known)
    return found


def _ratio(rows: Sequence[Row], opponent: str, size: int, key: str) -> float | None:
    values = {str(row["name"]): float(row[key]) for row in rows if row["connections"] == size}
    if SUBJECT not in values or values.get(opponent, 0.0) <= 0:
        return None
    return round(values[SUBJECT] / values[opponent], 3)


def describe(name: str, run: Run) -> str:
    """One run in a line, for who waits."""
    report = run.report
    texts = [
        f"{name}, {run.connections} connections: CPU {run.cpu_micros_per_delivery:.1f} µs a delivery",
        f"until the last p50 {report.until_last.p50_ms:.1f} ms, p99 {report.until_last.p99_ms:.1f} ms",
        f"{run.kib_per_connection:.1f} KiB a connection",
        f"idle {run.idle_percent:.2f} % of a core with {run.beats} heartbeats and pings",
        f"{run.upgrades_per_cpu_second:.0f} upgrades per CPU second",
        f"{report.broadcasts} broadcasts, {report.deliveries} deliveries",
        f"client {report.cpu_seconds / max(report.deliveries, 1) * 1e6:.1f} µs",
        "complete" if run.complete else "NOT COMPLETE",
    ]
    if report.skipped or run.conflated:
        texts.append(f"{run.conflated} conflated, {report.skipped} skipped")
    if run.flaws or report.connections != run.connections:
        texts.append(f"{report.connections} open, {dict(run.flaws)}")
    return ", ".join(texts)
