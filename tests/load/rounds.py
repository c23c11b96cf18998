"""Rounds of all contenders in turn (A B C A B C), so that a busy machine hits all alike; medians over the rounds."""

import contextlib
import statistics
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

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


@contextlib.asynccontextmanager
async def all_entered(arena: Arena, contenders: Sequence[Contender], users: int) -> AsyncIterator[list[Entered]]:
    """The contenders, running and warm, inside the block."""
    async with contextlib.AsyncExitStack() as stack:
        entered: list[Entered] = []
        for contender in contenders:
            with stage(f"Start {contender.name} and warm it up"):
                entered.append(await stack.enter_async_context(arena.entered(contender)))
                await entered[-1].warm_up(Load(WARM_UP_SECONDS, users=Users(users)))
        yield entered


async def measure_in_turn(
    entered: Sequence[Entered], load: Load, rounds: int, *, for_each_process: bool = False
) -> dict[str, list[Run]]:
    """The same load for everyone, round by round; the runs by contender.

    ``for_each_process``: as many connections for each of a contender's processes, not for all of them together.
    """
    runs: dict[str, list[Run]] = {each.name: [] for each in entered}
    kind = f"{load.rate:.0f} requests/s" if load.rate else f"{load.connections} connections"
    for number in range(1, rounds + 1):
        with stage(f"Round {number} of {rounds}, {load.seconds:g} s each, {kind}"):
            for each in entered:
                factor = len(each.running.pids) if for_each_process else 1
                run = await each.measure(replace(load, connections=factor * load.connections))
                runs[each.name].append(run)
                say(describe(each.name, run))
    return runs


def row_of(name: str, runs: Sequence[Run]) -> dict[str, str | float | bool]:
    """One row of a result: medians over the rounds, correct only if every round was."""
    return {
        "name": name,
        "requestsPerSecond": median(run.report.requests_per_second for run in runs),
        "p50Ms": median(run.report.p50_ms for run in runs),
        "p99Ms": median(run.report.p99_ms for run in runs),
        "cpuMicrosPerRequest": median(run.cpu_micros_per_request for run in runs),
        "correct": all(run.correct for run in runs),
        **{f"{part}Micros": median(run.micros(part) for run in runs) for part in runs[0].cpu},
    }


def describe(name: str, run: Run) -> str:
    """One run in a line, for who waits."""
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


def median(values: Iterable[float]) -> float:
    """The median, to three digits after the point."""
    return round(statistics.median(values), 3)
