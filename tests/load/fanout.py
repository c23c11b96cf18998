"""``python -m tests.load.fanout``: one snapshot to very many WebSockets, beside centrifuge and a bare loop of send().

Each server runs as one process, is connected to, left idle, and sent snapshots through at a fixed rate; a client reads
and checks every frame. Servers take turns, round by round; rows show medians. See docs/benchmarks.md.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from collections.abc import Sequence

from podium_dev.console import StageError, report_failure, say, stage
from tests.load.fanout_client import client_program
from tests.load.fanout_results import Run, describe, ratios, row_of
from tests.load.fanout_run import Place, Plan, running_place
from tests.load.fanout_servers import SERVERS, compile_all
from tests.load.rounds import Row
from tests.load.scoreboard import ROOT
from tests.load.table import print_table

OUTPUT = ROOT / "build" / "bench" / "fanout.json"

MAX_RATE = 18.0
"""Below the twenty a second that Podium sends at most by default: none is conflated while nothing is late."""
DELIVERIES_PER_SECOND = 40_000
"""What is asked of everyone unless ``--rate`` says otherwise: 18 broadcasts a second to 2,000, 5 to 8,000."""

OWN_FILES = 512
"""Files that a process needs besides its connections."""


def rate_for(connections: int) -> float:
    """Broadcasts a second to so many connections."""
    return min(MAX_RATE, DELIVERIES_PER_SECOND / connections)


def raise_file_limit(connections: int) -> None:
    """Let this process and its children open as many files as they need. Raises StageError."""
    needed = connections + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise StageError(f"{connections} connections need {needed} open files, and the hard limit is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def measure_in_turn(place: Place, names: Sequence[str], rounds: int, plan: Plan) -> list[Row]:
    """All servers with one number of connections, round by round; a row for each."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        title = f"{plan.connections} connections, {plan.rate:g} broadcasts/s for {plan.seconds:g} s"
        with stage(f"Round {number} of {rounds}, {title}"):
            for name in names:
                run = await place.measure(SERVERS[name], plan)
                runs[name].append(run)
                say(describe(name, run))
    return [row_of(name, found) for name, found in runs.items()]


async def bench(options: argparse.Namespace) -> list[Row]:
    """Every number of connections in turn."""
    rows: list[Row] = []
    async with running_place() as place:
        for connections in options.connections:
            plan = Plan(
                connections=connections,
                rate=options.rate or rate_for(connections),
                seconds=options.seconds,
                idle_seconds=options.idle,
                opened_per_second=options.open_rate,
                tick_ms=options.tick_ms,
            )
            rows += await measure_in_turn(place, options.contenders, options.rounds, plan)
    return rows


def save(rows: Sequence[Row]) -> None:
    """Print the result and write it to build/bench."""
    found = ratios(rows)
    print("\nfanout:\n")
    print_table(rows)
    for key, value in found.items():
        print(f"{key}: {value}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"rows": rows, "ratios": found}, indent=1) + "\n")
    say(f"wrote {OUTPUT.relative_to(ROOT)}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    summary = __doc__.splitlines()[0] if __doc__ else None
    parser = argparse.ArgumentParser(prog="python -m tests.load.fanout", description=summary)
    parser.add_argument("--connections", type=int, nargs="+", default=[2000, 8000], metavar="N", help="(2000 8000)")
    parser.add_argument("--contenders", nargs="+", choices=SERVERS, default=list(SERVERS), help="who takes part")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contender; medians are shown (3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the broadcasts of a round (10)")
    parser.add_argument(
        "--rate", type=float, help="broadcasts a second (18, but not more than 40,000 deliveries: 5 at 8,000)"
    )
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of idle connections (30)")
    parser.add_argument("--open-rate", type=float, default=2000.0, help="connections opened in a second (2000)")
    parser.add_argument(
        "--tick-ms", type=float, help="Podium's least time between broadcasts, in ms (the service's own: 50)"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, print, write; fails where a run was not complete."""
    options = parse()
    begin = time.monotonic()
    try:
        raise_file_limit(max(options.connections))
        with stage("Compile the client and the opponents (once; some 2 min)"):
            client_program()
            compile_all()
        rows = asyncio.run(bench(options))
    except StageError as error:
        report_failure(error)
        return 1
    save(rows)
    say(f"took {time.monotonic() - begin:.0f} s")
    return 0 if all(row["complete"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
