"""Every fault, at random, under load; the ledger must stay clean.

    python -m tests.chaos [--rounds N] [--seed S] [--only FAULT …] [--players N] [--interval SECONDS]

Runs on the Scoreboard that ``make up`` left, or on one of its own. Prints each fault as it happens and a table at the
end, writes ``build/chaos.json``; exit status 1 if anything was lost, counted twice or different, or if a client got an
answer that it should not get.
"""

import argparse
import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from random import Random

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.limits import lifted
from tests.chaos.players import Crowd, Pace
from tests.chaos.report import line, table, write
from tests.chaos.trial import Arena, Report
from tests.support.client import Client
from tests.support.instance import ROOT, Instance, found_instance

BUILD = ROOT / "build"

PLAYERS = 50
INTERVAL_SECONDS = 1.0
"""Normal rate: so many players, each an update in so many seconds."""


async def storm(instance: Instance, options: argparse.Namespace) -> int:
    """Run all rounds; the exit status. A run that is told to end puts back what it took away."""
    this = asyncio.current_task()
    assert this is not None
    for end in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(end, this.cancel)
    random = Random(options.seed)
    chosen = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    reports: list[Report] = []
    async with Client(instance.url, instance.client_id, instance.client_secret) as client:
        crowd = Crowd(client, Pace(options.players, options.interval), "chaos", values=True)
        async with Arena(instance, client, crowd) as arena:
            await arena.until_the_stars_lead()
            try:
                for number in range(1, options.rounds + 1):
                    reports += await _round(arena, chosen, random, number, options.rounds)
            finally:
                if reports:
                    print(f"\n{table(reports)}\n\n{write(reports, BUILD)}", flush=True)
    for form, count in crowd.faults_of_form.items():
        print(f"clients got what they should not get: {count} × {form}")
    good = all(report.good for report in reports) and not crowd.faults_of_form
    return 0 if good and len(reports) == options.rounds * len(chosen) else 1


async def _round(arena: Arena, faults: Sequence[Fault], random: Random, number: int, of: int) -> list[Report]:
    begun = time.monotonic()
    reports = []
    print(f"round {number} of {of}", flush=True)
    for fault in random.sample(faults, len(faults)):
        report = await arena.run(fault, random)
        reports.append(report)
        print(line(report), flush=True)
    state = "clean" if all(report.verdict.clean for report in reports) else "NOT CLEAN"
    print(f"round {number}: the ledger is {state} ({(time.monotonic() - begun) / 60:.1f} min)", flush=True)
    return reports


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how many times every fault happens")
    parser.add_argument("--seed", type=int, default=None, help="for the same order and the same victims again")
    parser.add_argument("--only", nargs="+", choices=[fault.name for fault in FAULTS], help="these faults alone")
    parser.add_argument("--players", type=int, default=PLAYERS)
    parser.add_argument("--interval", type=float, default=INTERVAL_SECONDS, help="seconds between updates of a player")
    options = parser.parse_args()
    options.seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    print(f"seed {options.seed}", flush=True)
    with found_instance() as instance, lifted(instance):
        try:
            return asyncio.run(storm(instance, options))
        except asyncio.CancelledError:
            print("ended before its end", flush=True)
            return 1


if __name__ == "__main__":
    sys.exit(main())
