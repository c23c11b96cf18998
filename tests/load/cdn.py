"""``python -m tests.load.cdn``: reads through a real shared cache (Varnish) while scores change.

By default it starts the services of ``examples/bench.yaml`` and their gateway (Envoy, rate limits) as processes, and
lets 20 users score; with ``--url`` the cache stands before a gateway that runs, whose scores something else changes
(``make demo``). Every answer is read, and held against what a WebSocket of the origin told: nobody may get a top that
is outdated for longer than the cache's times allow.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import websockets

from podium_dev import toolchain
from podium_dev.console import StageError, report_failure, say, stage
from tests.load.arena import Arena, running_arena
from tests.load.cdn_edge import Offer, Published, Result, all_correct, lifetime_seconds, oldest_seconds
from tests.load.contenders import PROJECTOR, SCOREBOARD, podium
from tests.load.generator import Load, Users, generator_program, run_load
from tests.load.rounds import Row
from tests.load.scoreboard import ROOT, Keys, inputs
from tests.load.table import print_table
from tests.support.gateway import ScoreboardGateway
from tests.support.processes import scratch_directory
from tests.support.varnish import PACKAGE, Origin, Varnish

OUTPUT = ROOT / "build" / "bench" / "cdn.json"

PATH = "/api/v1/scoreboard"
TOKEN = "the-token-of-the-bench"

PLAYERS = Users(20)
CHANGES = 5.0
"""Updates a second; with so few players nearly each changes the top."""

PURGED_SECONDS = 3600
"""s-maxage of the run in which a purge alone makes answers new."""

PURGED_BOUND = 3.5
"""How outdated an answer may be then: a turn of one second, the repetition two seconds later, and some time to call."""


@dataclass(frozen=True)
class Place:
    """An origin with a cache before it."""

    origin: str
    cache: Varnish
    published: Published
    keys: Keys
    scores: tuple[str, ...] = ()
    """Addresses that take score updates; none where something else lets users score."""


@contextlib.asynccontextmanager
async def watched(origin: str) -> AsyncIterator[Published]:
    """What the origin publishes for the board ``default`` inside the block."""
    published, first = Published(), asyncio.Event()

    async def read(socket: websockets.ClientConnection) -> None:
        async for raw in socket:
            message = json.loads(raw)
            if message["type"] == "snapshot" and message["board"] == "default":
                published.add((message["epoch"], message["version"]), time.time())
                first.set()

    async with websockets.connect(origin.replace("http", "ws", 1) + "/ws/scoreboard", proxy=None) as socket:
        reader = asyncio.create_task(read(socket))
        try:
            await asyncio.wait_for(first.wait(), 10)
            yield published
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


@contextlib.asynccontextmanager
async def cached(
    origin: str, directory: Path, keys: Keys, scores: tuple[str, ...] = (), cache: Varnish | None = None
) -> AsyncIterator[Place]:
    """Varnish before an origin, and a watcher of the origin, inside the block."""
    cache = cache or Varnish(Origin.of(origin), directory, TOKEN)
    try:
        await asyncio.to_thread(cache.start)
        async with watched(origin) as published:
            yield Place(origin, cache, published, keys, scores)
    finally:
        await asyncio.to_thread(cache.stop)


@contextlib.asynccontextmanager
async def own_services(arena: Arena, *, purged: bool) -> AsyncIterator[Place]:
    """The services on clean stores, their gateway, and a cache before it.

    ``purged``: the cache may keep everything for PURGED_SECONDS, and the projector purges it.
    """
    await asyncio.to_thread(arena.stores.redis.flush)
    await arena.purge_events()
    database = arena.stores.postgres.create_database()
    async with contextlib.AsyncExitStack() as stack:
        scores = await stack.enter_async_context(arena.entered(podium(1), database))
        projector = await stack.enter_async_context(arena.entered(PROJECTOR, database))
        times = {"PODIUM_CDN_S_MAXAGE": str(PURGED_SECONDS)} if purged else {}
        environment = {**SCOREBOARD.environment, **times, "PODIUM_WS_TICK_MS": "0"}
        board = await stack.enter_async_context(arena.entered(replace(SCOREBOARD, environment=environment), database))
        gateway = ScoreboardGateway(
            await asyncio.to_thread(_folder, arena.directory, database),
            arena.stores.redis.settings(),
            inputs().spec.security,
            board.running.addresses[0],
            arena.keys.environment()["PODIUM_JWT_JWKS"],
            trusted_proxies=("127.0.0.1/32",),
        )
        stack.push_async_callback(asyncio.to_thread, gateway.stop)
        await asyncio.to_thread(gateway.start)
        origin = gateway.url
        cache = Varnish(Origin.of(origin), arena.directory, TOKEN)
        if purged:
            token = arena.directory / "purge-token"
            token.write_text(TOKEN)
            purge = {"URL": cache.purge_url, "FORM": "Bearer", "TOKEN_FILE": str(token)}
            values = {f"PODIUM_CDN_PURGE_{name}": value for name, value in purge.items()}
            purging = replace(PROJECTOR, name="purging", environment={**PROJECTOR.environment, **values})
            await asyncio.to_thread(projector.running.stop)
            await stack.enter_async_context(arena.entered(purging, database))
        place = cached(origin, arena.directory, arena.keys, tuple(scores.running.addresses), cache)
        yield await stack.enter_async_context(place)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / f"gateway-{name}"
    folder.mkdir()
    return folder


async def measure(place: Place, offer: Offer, bound: float | None = None) -> Result:
    """Read through the cache while scores change. ``bound`` in seconds is the answer's own lifetime if not given."""
    async with httpx.AsyncClient() as http:
        first = await http.get(place.cache.url + PATH)
    bound = lifetime_seconds(first.headers["cache-control"]) if bound is None else bound
    reads = Load(offer.seconds, rate=offer.rate, connections=offer.connections, read_path=PATH, show_versions=True)
    changes = Load(offer.seconds, rate=CHANGES, connections=4, users=PLAYERS)
    asked, begin = (await asyncio.to_thread(place.cache.counters))["backend_req"], time.time()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(run_load([f"127.0.0.1:{place.cache.port}"], reads, place.keys))
        if place.scores:
            group.create_task(run_load(place.scores, changes, place.keys))
    report, end = reading.result(), time.time()
    asked = (await asyncio.to_thread(place.cache.counters))["backend_req"] - asked
    published = place.published
    result = Result(offer, report, asked, published.between(begin, end), oldest_seconds(report, published), bound)
    text = f"{offer.name}: {result.row()}" + (f", errors {dict(report.errors)}" if report.errors else "")
    say(text)
    return result


async def bench(options: argparse.Namespace) -> list[Row]:
    """All runs, a row for each."""
    many = Offer("cached", options.rate, options.seconds, 64, origin_rate=1.5)
    few = Offer("cached, few readers", 0.4, options.seconds, 2, origin_rate=1.5)
    purged = Offer("purged", options.rate, options.seconds, 64, origin_rate=2.5)
    rows: list[Row] = []
    if options.url:
        with scratch_directory() as directory:
            async with cached(options.url.rstrip("/"), directory, Keys.generate()) as place:
                return [(await measure(place, offer)).row() for offer in (many, few)]
    with stage("Start the stores"):
        stack = contextlib.AsyncExitStack()
        arena = await stack.enter_async_context(running_arena())
    async with stack:
        with stage(f"Read {options.rate:g} times a second for {options.seconds:g} s, then seldom"):
            async with own_services(arena, purged=False) as place:
                rows += [(await measure(place, offer)).row() for offer in (many, few)]
        with stage(f"The same while the cache may keep everything for {PURGED_SECONDS} s, and is purged"):
            async with own_services(arena, purged=True) as place:
                rows.append((await measure(place, purged, PURGED_BOUND)).row())
    return rows


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a running gateway (url of `make -s info`), instead of services of its own")
    parser.add_argument("--rate", type=float, default=2000.0, help="requests a second (2000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run (20)")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, print, write; fails where an answer was too old, or the origin asked too often."""
    options = parse()
    begin = time.monotonic()
    try:
        toolchain.ensure_debian_packages(PACKAGE)
        with stage("Compile the load generator (once)"):
            generator_program()
        rows = asyncio.run(bench(options))
    except StageError as error:
        report_failure(error)
        return 1
    print_table(rows)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"rows": rows}, indent=2) + "\n")
    say(f"wrote {OUTPUT.relative_to(ROOT)}, took {time.monotonic() - begin:.0f} s")
    return 0 if all_correct(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
