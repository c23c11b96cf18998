"""``python -m tests.load``: the benches. See docs/benchmarks.md."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence

from podium_dev.console import StageError, report_failure, say, stage
from tests.load import agreement, read, storage, write
from tests.load.arena import Arena, running_arena
from tests.load.contenders import GO, GO_BATCHED, UNBATCHED, podium
from tests.load.generator import generator_program, opponent_program
from tests.load.rounds import Plan, Row
from tests.load.scoreboard import ROOT
from tests.load.table import print_table

OUTPUT = ROOT / "build" / "bench"
PARTS = ("serviceMicros", "postgresMicros", "redisMicros", "natsMicros")
CONTENDERS = {each.name: each for each in (podium(1), podium(2), UNBATCHED, GO, GO_BATCHED)}


async def bench_write(arena: Arena, options: argparse.Namespace, plan: Plan) -> None:
    """Side by side, then low load; or what the options ask for instead."""
    if options.overload:
        found = await write.overload(arena, plan, options.overload_seconds)
        save("overload", [found.as_row()], {}, {"memoryMB": found.memory_mb})
    if options.pods:
        rows = await write.by_pods(arena, options.pods, options.pod_cpu, plan)
        save("pods", rows, {}, {"coresOfAPod": options.pod_cpu})
    if options.storage:
        sizes = [storage.Size(plan.users, 0), storage.Size(options.storage_users, options.storage_log_rows)]
        save("storage", await storage.by_size(arena, sizes, plan), {})
    if options.low:
        rows = await write.low_load(arena, options.low, plan)
        save("low", rows, write.low_load_ratio(rows))
    if not (options.overload or options.pods or options.storage or options.low):
        await side_by_side(arena, options, plan)


async def side_by_side(arena: Arena, options: argparse.Namespace, plan: Plan) -> None:
    """All contenders, the ratios, and how much later group commit answers at a tenth of the load."""
    chosen = [CONTENDERS[name] for name in options.contenders]
    rows = await write.side_by_side(arena, chosen, plan)
    subject = write.subject_of(rows)
    ratios = write.ratios(rows, subject)
    low: Sequence[Row] = []
    if not options.skip_low:
        capacity = next(float(row["requestsPerSecond"]) for row in rows if row["name"] == subject)
        low = await write.low_load(arena, capacity, plan)
        ratios |= write.low_load_ratio(low)
        print("\nAt a tenth of that load:\n")
        print_table(low)
    save("write", rows, ratios, {"subject": subject, "lowLoad": [split(row)[0] for row in low]})


async def bench_read(arena: Arena, options: argparse.Namespace, plan: Plan) -> None:
    """Reads from pod memory beside a plain service."""
    rows = await read.reads(arena, plan)
    save("read", rows, read.read_ratios(rows))


async def check(arena: Arena, options: argparse.Namespace, plan: Plan) -> None:
    """Let all contenders answer the same requests. Raises StageError where an opponent answers otherwise."""
    ours = await agreement.answers_of(arena, podium(1))
    for contender in (UNBATCHED, GO, GO_BATCHED):
        found = agreement.differences(ours, await agreement.answers_of(arena, contender))
        if found:
            raise StageError(f"{contender.name} answers otherwise: {'; '.join(found)}")


async def bench_all(arena: Arena, options: argparse.Namespace, plan: Plan) -> None:
    """Everything, one after the other."""
    await side_by_side(arena, options, plan)
    await bench_read(arena, options, plan)
    options.overload, options.pods, options.storage = True, options.pods or [1, 2, 3, 4, 6, 8], True
    await bench_write(arena, options, plan)


def save(name: str, rows: Sequence[Row], ratios: Mapping[str, float], more: Mapping[str, object] | None = None) -> None:
    """Print a result and write it to build/bench."""
    print(f"\n{name}:\n")
    print_table(rows)
    for key, value in ratios.items():
        print(f"{key}: {value}")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.json"
    pairs = [split(row) for row in rows]
    parts = {str(row["name"]): part for row, part in pairs if part}
    document = {"rows": [row for row, _ in pairs], "ratios": ratios, "cpuMicrosByPart": parts, **(more or {})}
    path.write_text(json.dumps(document, indent=1) + "\n")
    say(f"wrote {path.relative_to(ROOT)}")


def split(row: Row) -> tuple[Row, Row]:
    """A row without the CPU of its parts, and these."""
    parts = {name: value for name, value in row.items() if name in PARTS}
    return {name: value for name, value in row.items() if name not in PARTS}, parts


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("bench", choices=("write", "read", "check", "all"))
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contender; medians are shown (3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a round (6)")
    parser.add_argument("--users", type=int, default=10_000, help="users that send (10000)")
    group = parser.add_argument_group("write")
    default = ["podium", "podium-2", "go", "go-batched"]
    group.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=default, help="who takes part")
    group.add_argument("--skip-low", action="store_true", help="leave out the comparison at low load")
    group.add_argument("--low", type=float, metavar="RATE", help="only low load, for a capacity of RATE requests/s")
    group.add_argument("--overload", action="store_true", help="three times the capacity in open loop")
    group.add_argument("--overload-seconds", type=float, default=20.0, help="length of the overload (20)")
    group.add_argument("--pods", type=_numbers, metavar="N,N,…", help="throughput by number of processes")
    group.add_argument("--pod-cpu", type=float, default=0.15, metavar="CORES", help="each one's limit (0.15; 0: none)")
    group.add_argument("--storage", action="store_true", help="a small and a large database")
    group.add_argument("--storage-users", type=int, default=1_000_000, help="users of the large one (1000000)")
    group.add_argument("--storage-log-rows", type=int, default=10_000_000, help="its rows of the log (10000000)")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


async def run(options: argparse.Namespace) -> None:
    """Start the stores and run a bench."""
    plan = Plan(options.rounds, options.seconds, options.users)
    bench = {"write": bench_write, "read": bench_read, "check": check, "all": bench_all}[options.bench]
    async with running_arena() as arena:
        await bench(arena, options, plan)


def main() -> int:
    """Run what the arguments ask for."""
    options = parse()
    begin = time.monotonic()
    try:
        with stage("Compile the load generator and the Go opponent (once; some 2 min)"):
            generator_program()
            opponent_program()
        asyncio.run(run(options))
    except StageError as error:
        report_failure(error)
        return 1
    say(f"took {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
