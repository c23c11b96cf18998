"""``python -m tests.load.storm``: very many watchers on a real cluster, through the gateway.

They watch the top change, are all cut off at once and come back, and stay while every pod that serves them is replaced.
Each frame is read and checked. Runs on the Scoreboard that ``make up`` left, or on one of its own.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from podium_dev.console import StageError, report_failure, say, stage
from tests.chaos.limits import lifted
from tests.chaos.players import STARS, Crowd, Pace
from tests.chaos.truth import is_ready
from tests.load.fanout import raise_file_limit
from tests.load.fanout_client import FanoutClient, Report, Target, client_program, running_client
from tests.load.rounds import Row
from tests.load.table import print_table
from tests.support.client import Client
from tests.support.instance import ROOT, Instance, found_instance, until

OUTPUT = ROOT / "build" / "bench" / "storm.json"

CHANGES_PER_SECOND = 2.0
AT_ONCE = 256
"""Handshakes under way at a time: many clients, of which none waits for another."""

LAST_SECONDS = 120.0
"""How long the last connection may take to come back and to have the last snapshot."""

LEAVE_SECONDS = 120.0
"""How long an old pod may take to send its watchers away."""

SERVING = ("scoreboard", "gateway")
"""Components that have to stay ready."""


@dataclass
class Readiness:
    """How many pods of the serving components were ready: the least that was seen, and the most."""

    instance: Instance
    least: int = sys.maxsize
    most: int = 0
    looks: int = 0

    async def watch(self) -> None:
        """Look once a second, for ever."""
        while True:
            pods = await asyncio.to_thread(lambda: [pod for name in SERVING for pod in self.instance.pods(name)])
            ready = sum(map(is_ready, pods))
            self.least, self.most, self.looks = min(self.least, ready), max(self.most, ready), self.looks + 1
            await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def watched(instance: Instance) -> AsyncIterator[Readiness]:
    """Readiness is looked at inside the block."""
    readiness = Readiness(instance)
    task = asyncio.create_task(readiness.watch())
    try:
        yield readiness
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Theatre:
    """A Scoreboard, players who change its top, and watchers."""

    def __init__(self, instance: Instance, client: Client, crowd: Crowd, watchers: FanoutClient) -> None:
        self.instance = instance
        self.client = client
        self.crowd = crowd
        self.watchers = watchers

    async def last(self) -> tuple[int, int]:
        """Hold the players back; (epoch, version) of the top when nothing more changes."""
        await self.crowd.pause()
        age, same = (0, 0), 0
        while same < 3:
            await asyncio.sleep(0.5)
            top = await self.top()
            found = (int(top["epoch"]), int(top["version"]))
            same = same + 1 if found == age else 0
            age = max(age, found)
        return age

    async def top(self) -> Mapping[str, Any]:
        """The top as readers see it."""
        answer = await self.client.http.get("/api/v1/scoreboard", headers={"cache-control": "no-cache"})
        answer.raise_for_status()
        found: Mapping[str, Any] = answer.json()
        return found

    async def phase(self, name: str, seconds: float, disturb: "Disturbance | None" = None) -> tuple[Row, Report]:
        """Watch for some seconds, or for as long as the disturbance takes; then all must have the last snapshot."""
        with stage(name):
            await self.watchers.begin()
            async with watched(self.instance) as readiness:
                self.crowd.go_on()
                begun = time.monotonic()
                if disturb is not None:
                    await disturb(self)
                await asyncio.sleep(max(0.0, begun + seconds - time.monotonic()))
                report = await self.watchers.end(await self.last(), LAST_SECONDS)
                is_truth = report.rankings == (await self.top())["rankings"]
        row = row_of(name, report, readiness, is_truth=is_truth)
        say(", ".join(f"{key} {value}" for key, value in row.items()))
        return row, report


async def cut(on: Theatre) -> None:
    """All connections break at once."""
    await on.watchers.cut()


async def roll(on: Theatre) -> None:
    """Replace all pods that watchers are connected to, one after the other, as an update does."""
    deployment = f"deployment/{on.instance.name}-scoreboard"
    await asyncio.to_thread(on.instance.kubectl, "rollout", "restart", deployment)
    await asyncio.to_thread(on.instance.kubectl, "rollout", "status", deployment, "--timeout=280s")
    await asyncio.to_thread(on.instance.wait_settled)
    # Pods that go away are no part of that, and have yet to send their watchers on.
    await asyncio.to_thread(until, lambda: not _leaving(on.instance), LEAVE_SECONDS, every=1.0)


def _leaving(instance: Instance) -> list[str]:
    pods = instance.objects("pods", "app.kubernetes.io/component=scoreboard")
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]


Disturbance: TypeAlias = Callable[[Theatre], Awaitable[None]]


def row_of(name: str, report: Report, readiness: Readiness, *, is_truth: bool) -> Row:
    """A phase's row; ``is_truth``: whether the last snapshot is what readers see."""
    returns = report.returns
    assert returns is not None
    return {
        "name": name,
        "connections": report.connections,
        "broadcasts": report.broadcasts,
        "deliveries": report.deliveries,
        "untilLastP50Ms": report.until_last.p50_ms,
        "untilLastP99Ms": report.until_last.p99_ms,
        "deliveryP99Ms": report.delivery.p99_ms,
        "returned": returns.count,
        "failures": sum(returns.failures.values()),
        "mostInASecond": returns.most_in_a_second,
        "returnSeconds": round(returns.seconds, 2),
        "gapP50Ms": returns.gap.p50_ms,
        "gapP99Ms": returns.gap.p99_ms,
        "gapMaxMs": returns.gap.max_ms,
        "awayMost": returns.away_most,
        "leastReadyPods": readiness.least,
        "mostReadyPods": readiness.most,
        "faults": sum(report.faults.values()),
        "complete": report.complete and is_truth,
    }


async def measure(instance: Instance, options: argparse.Namespace) -> list[Row]:
    """All phases."""
    address = instance.gateway_address()
    say(f"the gateway is at {address}")
    rows: list[Row] = []
    async with Client(instance.url, instance.client_id, instance.client_secret) as client, running_client() as watchers:
        crowd = Crowd(client, Pace(STARS, STARS / CHANGES_PER_SECOND), "chaos")
        await crowd.enter()
        playing = asyncio.create_task(crowd.play())
        try:
            on = Theatre(instance, client, crowd, watchers)
            with stage(f"Open {options.connections} connections at {options.open_rate:g} a second"):
                opened = await watchers.connect(
                    Target(address, awaits_message=True),
                    options.connections,
                    options.open_rate,
                    returning=True,
                    at_once=AT_ONCE,
                )
                say(f"{opened.connections} in {opened.seconds:.1f} s, errors: {dict(opened.errors)}")
            phases: list[tuple[str, float, Disturbance | None]] = [
                ("steady", options.seconds, None),
                ("storm", options.seconds, cut),
                ("rolling update", options.seconds, roll),
            ]
            for name, seconds, disturb in phases:
                row, report = await on.phase(name, seconds, disturb)
                rows.append(row)
                returns = report.returns
                assert returns is not None
                say(f"lost: {dict(returns.lost)}; in vain: {dict(returns.failures)}; faults: {dict(report.faults)}")
                if returns.count:
                    say("lost and back in each second: " + " ".join(f"{one}/{two}" for one, two in returns.timeline))
            await watchers.disconnect()
        finally:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
    return rows


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    summary = __doc__.splitlines()[0] if __doc__ else None
    parser = argparse.ArgumentParser(prog="python -m tests.load.storm", description=summary)
    parser.add_argument("--connections", type=int, default=8000, help="watchers (8000)")
    parser.add_argument("--open-rate", type=float, default=500.0, help="connections opened in a second at first (500)")
    parser.add_argument("--seconds", type=float, default=30.0, help="least length of each phase (30)")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, print, write; fails where a watcher missed the end or saw something out of order."""
    options = parse()
    try:
        raise_file_limit(options.connections)
        with stage("Compile the client (once; some 2 min)"):
            client_program()
        with found_instance() as instance, lifted(instance):
            rows = asyncio.run(measure(instance, options))
    except StageError as error:
        report_failure(error)
        return 1
    print_table(rows)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    say(f"wrote {OUTPUT.relative_to(ROOT)}")
    return 0 if all(row["complete"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
