"""Score updates side by side, and what the others of ``make bench-write`` show: low load, overload, more processes."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podium_dev.console import say, stage
from tests.load.arena import Arena
from tests.load.contenders import UNBATCHED, Contender, podium
from tests.load.generator import Load, Users
from tests.load.machine import resident_bytes
from tests.load.quota import limited
from tests.load.rounds import Plan, Row, all_entered, measure_in_turn, median, row_of
from tests.load.sampling import Sampler

LOW_SHARE = 0.1
"""Share of the capacity that is low load."""

LOW_USERS = 2_000
"""Users at low load: few enough that the slow contender is warm soon."""

OVERLOAD = 3.0
"""Overload as a multiple of the capacity."""

OVERLOAD_CONNECTIONS = 1024
"""Connections under overload, so that it is the service that makes requests wait and not the generator."""


async def side_by_side(arena: Arena, contenders: Sequence[Contender], plan: Plan) -> list[Row]:
    """Closed loop, all contenders in turn; one row each."""
    async with all_entered(arena, contenders, plan.users) as entered:
        runs = await measure_in_turn(entered, Load(plan.seconds, users=Users(plan.users)), plan.rounds)
    return [row_of(name, found) for name, found in runs.items()]


async def by_pods(arena: Arena, counts: Sequence[int], cores: float, plan: Plan) -> list[Row]:
    """Closed loop with so many processes, each held to ``cores`` as a pod is by its limit; 0 for no limit.

    Each process has its own connections, as many as a single one has in the other benches.
    """
    async with all_entered(arena, [podium(count) for count in counts], plan.users) as entered:
        with contextlib.ExitStack() as limits:
            for each in entered if cores else ():
                limits.enter_context(limited(each.running.pids, cores))
            load = Load(plan.seconds, users=Users(plan.users))
            runs = await measure_in_turn(entered, load, plan.rounds, for_each_process=True)
    return [row_of(name, found) for name, found in runs.items()]


async def low_load(arena: Arena, capacity: float, plan: Plan) -> list[Row]:
    """A tenth of the capacity in open loop: Podium with and without group commit."""
    load = Load(plan.seconds, rate=capacity * LOW_SHARE, users=Users(LOW_USERS))
    async with all_entered(arena, [podium(1), UNBATCHED], LOW_USERS) as entered:
        runs = await measure_in_turn(entered, load, plan.rounds)
    return [row_of(name, found) for name, found in runs.items()]


@dataclass(frozen=True)
class Overload:
    """What three times the capacity did. Rates per second, latencies in ms, memory in MB (10^6 bytes)."""

    capacity: float
    normal_p99_ms: float
    offered: float
    accepted: float
    shed: float
    shed_properly: bool
    p99_ms: float
    shed_p99_ms: float
    late_p99_ms: float
    memory_mb: Sequence[float]
    correct: bool

    def as_row(self) -> Mapping[str, str | float | bool]:
        """The result as one row."""
        return {
            "capacity": self.capacity,
            "offered": self.offered,
            "acceptedPerSecond": self.accepted,
            "shedPerSecond": self.shed,
            "shedWith503AndRetryAfter": self.shed_properly,
            "normalP99Ms": self.normal_p99_ms,
            "acceptedP99Ms": self.p99_ms,
            "p99Ratio": self.p99_ms / self.normal_p99_ms,
            "shedP99Ms": self.shed_p99_ms,
            "generatorLateP99Ms": self.late_p99_ms,
            "memoryFirstMB": self.memory_mb[0],
            "memoryMaxMB": max(self.memory_mb),
            "memoryLastMB": self.memory_mb[-1],
            "correct": self.correct,
        }


async def overload(arena: Arena, plan: Plan, seconds: float) -> Overload:
    """Measure the capacity in closed loop, then offer three times as much for some seconds in open loop."""
    users = Users(plan.users)
    async with all_entered(arena, [podium(1)], plan.users) as (entered,):
        runs = await measure_in_turn([entered], Load(plan.seconds, users=users), plan.rounds)
        capacity = median(run.report.requests_per_second for run in runs[entered.name])
        normal = median(run.report.p99_ms for run in runs[entered.name])
        load = Load(seconds, rate=OVERLOAD * capacity, connections=OVERLOAD_CONNECTIONS, users=users)
        with stage(f"Offer {load.rate:.0f} requests/s for {seconds:g} s"):
            async with Sampler(lambda: resident_bytes(entered.running.pids) / 1e6) as memory:
                run = await entered.measure(load)
            say(f"answers by status: {dict(run.report.statuses)}, errors: {dict(run.report.errors)}")
    report = run.report
    shed = report.statuses.get("503", 0)
    return Overload(
        capacity=capacity,
        normal_p99_ms=normal,
        offered=load.rate,
        accepted=report.requests_per_second,
        shed=shed / report.seconds,
        shed_properly=report.refused == shed == report.retry_after and not report.errors,
        p99_ms=report.p99_ms,
        shed_p99_ms=report.refused_p99_ms,
        late_p99_ms=report.late_p99_ms,
        memory_mb=memory.values,
        correct=run.correct,
    )


def ratios(rows: Sequence[Row], subject: str) -> dict[str, float]:
    """How the row ``subject`` compares with the Go opponents."""
    by_name = {str(row["name"]): row for row in rows}

    def ratio(value: str, opponent: str) -> float:
        return round(float(by_name[subject][value]) / float(by_name[opponent][value]), 3)

    found: dict[str, float] = {}
    if "go" in by_name:
        found["throughputVsGo"] = ratio("requestsPerSecond", "go")
        found["cpuVsGo"] = ratio("cpuMicrosPerRequest", "go")
        found["p99VsGo"] = ratio("p99Ms", "go")
    if "go-batched" in by_name:
        found["throughputVsGoBatched"] = ratio("requestsPerSecond", "go-batched")
    return found


def low_load_ratio(rows: Sequence[Row]) -> dict[str, float]:
    """How many milliseconds later group commit answers at low load; negative if it is earlier."""
    batched, unbatched = (float(row["p50Ms"]) for row in rows)
    return {"lowLoadP50VsUnbatchedMs": round(batched - unbatched, 3)}


def subject_of(rows: Sequence[Row]) -> str:
    """The row of Podium that is compared: the number of processes with the highest throughput, for all ratios alike."""
    ours = [row for row in rows if str(row["name"]).startswith("podium")]
    return str(max(ours, key=lambda row: row["requestsPerSecond"])["name"])
