"""The write path side by side: rounds of all contenders in turn, medians, and the ratios to the Go opponents."""

import contextlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from podium_dev.console import say, stage
from tests.load.arena import Arena, Entered, Run
from tests.load.contenders import Contender
from tests.load.generator import Load, Users

WARM_UP_SECONDS = 60.0
"""Longest warm-up of one process, in seconds."""

Row = Mapping[str, str | float | bool]


@dataclass(frozen=True)
class Plan:
    """How long to measure: ``rounds`` of ``seconds`` each, by so many ``users``."""

    rounds: int = 3
    seconds: float = 6.0
    users: int = 10_000


async def measure_all(arena: Arena, contenders: Sequence[Contender], plan: Plan) -> dict[str, list[Run]]:
    """Warm all contenders up, then measure them in turn (A B C A B C), so that the machine's moods hit all alike."""
    load = Load(plan.seconds, users=Users(plan.users))
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    async with contextlib.AsyncExitStack() as stack:
        entered: list[Entered] = []
        for contender in contenders:
            with stage(f"Start {contender.name} and warm it up"):
                entered.append(await stack.enter_async_context(arena.entered(contender)))
                await entered[-1].warm_up(Load(WARM_UP_SECONDS, users=load.users))
        for number in range(1, plan.rounds + 1):
            with stage(f"Round {number} of {plan.rounds}, {plan.seconds:g} s each"):
                for each in entered:
                    run = await each.measure(load)
                    runs[each.name].append(run)
                    say(_line(each.name, run))
    return runs


def row_of(name: str, runs: Sequence[Run]) -> Row:
    """One row of the result: medians over the rounds, correct only if every round was."""
    return {
        "name": name,
        "requestsPerSecond": _median(run.report.requests_per_second for run in runs),
        "p50Ms": _median(run.report.p50_ms for run in runs),
        "p99Ms": _median(run.report.p99_ms for run in runs),
        "cpuMicrosPerRequest": _median(run.cpu_micros_per_request for run in runs),
        "correct": all(run.correct for run in runs),
        **{
            f"{part}Micros": _median(run.micros(part) for run in runs)
            for part in ("service", "postgres", "redis", "nats")
        },
    }


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


def best_podium(rows: Sequence[Row]) -> str:
    """The number of processes with which Podium is compared: the one with the highest throughput."""
    ours = [row for row in rows if str(row["name"]).startswith("podium")]
    return str(max(ours, key=lambda row: row["requestsPerSecond"])["name"])


def _line(name: str, run: Run) -> str:
    report = run.report
    parts = " + ".join(f"{part} {run.micros(part):.0f}" for part in run.cpu)
    texts = [
        f"{name}: {report.requests_per_second:.0f}/s",
        f"p50 {report.p50_ms:.1f} ms",
        f"p99 {report.p99_ms:.1f} ms",
        f"CPU {run.cpu_micros_per_request:.0f} µs ({parts})",
        f"generator {report.cpu_seconds / max(report.accepted, 1) * 1e6:.0f} µs",
        "correct" if run.correct else f"NOT CORRECT: {run.rows} rows, {run.score} points, drained {run.drained}",
    ]
    if report.refused or report.errors:
        texts.append(f"answers {dict(report.statuses)}, errors {dict(report.errors)}")
    return ", ".join(texts)


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)
