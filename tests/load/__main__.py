"""``python -m tests.load``: the benches. See docs/benchmarks.md."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from podium_dev.console import StageError, report_failure, say, stage
from tests.load import write
from tests.load.arena import running_arena
from tests.load.contenders import GO, GO_BATCHED, UNBATCHED, Contender, podium
from tests.load.generator import generator_program, opponent_program
from tests.load.scoreboard import ROOT
from tests.load.table import print_table

OUTPUT = ROOT / "build" / "bench"
CONTENDERS = {each.name: each for each in (podium(1), podium(2), UNBATCHED, GO, GO_BATCHED)}


async def bench_write(options: argparse.Namespace) -> None:
    """Measure, print the table and the ratios, write build/bench/write.json."""
    chosen: list[Contender] = [CONTENDERS[name] for name in options.contenders]
    plan = write.Plan(options.rounds, options.seconds, options.users)
    async with running_arena() as arena:
        runs = await write.measure_all(arena, chosen, plan)
    rows = [write.row_of(name, found) for name, found in runs.items()]
    subject = write.best_podium(rows)
    ratios = write.ratios(rows, subject)
    print_table(rows)
    for name, value in ratios.items():
        print(f"{name}: {value} ({subject})")
    save("write", {"rows": rows, "ratios": ratios, "subject": subject})


def save(name: str, document: object) -> Path:
    """Write a result below build/bench."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    say(f"wrote {path.relative_to(ROOT)}")
    return path


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["write"], default="write")
    parser.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=["podium", "podium-2", "go", "go-batched"]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--users", type=int, default=10_000)
    options = parser.parse_args()
    begin = time.monotonic()
    try:
        with stage("Compile the load generator and the Go opponent (once)"):
            generator_program()
            opponent_program()
        asyncio.run(bench_write(options))
    except StageError as error:
        report_failure(error)
        return 1
    say(f"took {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
