"""Reads of the scoreboard beside a plain FastAPI + Redis service that gives the same answer."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Sequence
from typing import Any

from redis.cluster import ClusterNode, RedisCluster

from podium_dev.console import say, stage
from tests.load.arena import Arena, Entered
from tests.load.contenders import PLAIN_READ, PROJECTOR, SCOREBOARD, podium
from tests.load.generator import CONNECTIONS, Load, Report, Users, run_load
from tests.load.machine import cpu_seconds
from tests.load.opponents.plain_read import DOCUMENT_KEY, DOCUMENT_PATH, NAMES_KEY, PATH, RANK_KEY, STATE_KEY
from tests.load.rounds import Plan, Row, median

_CASES = (
    ("podium", PATH, False),
    ("podium-304", PATH, True),
    ("fastapi-redis", PATH, False),
    ("fastapi-redis-document", DOCUMENT_PATH, False),
)
"""Row, path, whether with If-None-Match."""


async def reads(arena: Arena, plan: Plan) -> list[Row]:
    """Fill a board by real updates, give the opponent the same, and read from both in turn."""
    database = arena.stores.postgres.create_database()
    async with contextlib.AsyncExitStack() as stack:
        with stage("Start the services and let 1,000 users score"):
            scores = await stack.enter_async_context(arena.entered(podium(1), database))
            await stack.enter_async_context(arena.entered(PROJECTOR, database))
            board = await stack.enter_async_context(arena.entered(SCOREBOARD, database))
            plain = await stack.enter_async_context(arena.entered(PLAIN_READ, database))
            await run_load(scores.running.addresses, Load(60, requests=2000, users=Users(1000)), arena.keys)
            shown = await _settled(board)
            _copy(arena, shown)
        _check_equal(shown, _get(plain, PATH))
        _check_equal(shown, _get(plain, DOCUMENT_PATH))
        results: dict[str, list[tuple[Report, float]]] = {name: [] for name, _, _ in _CASES}
        for number in range(plan.rounds + 1):
            with stage("Warm up" if number == 0 else f"Round {number} of {plan.rounds}, {plan.seconds:g} s each"):
                for name, path, conditional in _CASES:
                    entered = board if name.startswith("podium") else plain
                    load = Load(plan.seconds if number else 2.0, read_path=path, conditional=conditional)
                    result = await _measured(arena, entered, load)
                    if number:
                        results[name].append(result)
                        say(f"{name}: {result[0].requests_per_second:.0f}/s, {result[1]:.0f} requests per CPU second")
    return [_row(name, results[name], conditional) for name, _, conditional in _CASES]


def read_ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Requests per CPU second, compared with the opponents'."""
    by_name = {str(row["name"]): float(row["requestsPerCpuSecond"]) for row in rows}
    plain, document = by_name["fastapi-redis"], by_name["fastapi-redis-document"]
    return {
        "perCpuSecondVsPlain": round(by_name["podium"] / plain, 2),
        "perCpuSecondVsDocument": round(by_name["podium"] / document, 2),
        "notModifiedPerCpuSecondVsPlain": round(by_name["podium-304"] / plain, 2),
        "notModifiedPerCpuSecondVsFull": round(by_name["podium-304"] / by_name["podium"], 2),
    }


async def _measured(arena: Arena, entered: Entered, load: Load) -> tuple[Report, float]:
    roots = [*entered.running.pids, *arena.store_pids()["redis"]]
    before = cpu_seconds(roots)
    report = await run_load(entered.running.addresses, load, arena.keys)
    return report, report.accepted / (cpu_seconds(roots) - before)


def _row(name: str, results: Sequence[tuple[Report, float]], conditional: bool) -> Row:
    reports = [report for report, _ in results]
    # The first request of each connection has no ETag yet.
    full = CONNECTIONS if conditional else None
    correct = all(r.statuses["200"] == (full or r.accepted) and not r.errors and not r.refused for r in reports)
    return {
        "name": name,
        "requestsPerSecond": median(report.requests_per_second for report in reports),
        "p50Ms": median(report.p50_ms for report in reports),
        "p99Ms": median(report.p99_ms for report in reports),
        "requestsPerCpuSecond": median(value for _, value in results),
        "correct": correct,
    }


def _get(entered: Entered, path: str) -> dict[str, Any]:
    host, _, port = entered.running.addresses[0].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


async def _settled(entered: Entered) -> dict[str, Any]:
    """The answer once the top has not changed for a second. Raises TimeoutError."""
    async with asyncio.timeout(60):
        before: dict[str, Any] = {}
        while True:
            shown = await asyncio.to_thread(_get, entered, PATH)
            if shown == before and len(shown["rankings"]) == 10:
                return shown
            before = shown
            await asyncio.sleep(1)


def _copy(arena: Arena, shown: dict[str, Any]) -> None:
    """Write what Podium shows into the opponent's keys."""
    settings = arena.stores.redis.settings()
    nodes = [ClusterNode(host, port) for host, port in settings.addresses()]
    with contextlib.closing(
        RedisCluster(startup_nodes=nodes, password=settings.password.get_secret_value())
    ) as connection:
        for row in shown["rankings"]:
            connection.zadd(RANK_KEY, {row["userId"]: row["score"]})
            connection.hset(NAMES_KEY, row["userId"], row["username"])
        connection.set(DOCUMENT_KEY, json.dumps(shown, separators=(",", ":")))
        connection.hset(STATE_KEY, mapping={name: str(shown[name]) for name in ("lastUpdated", "epoch", "version")})


def _check_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Both give the same answer, but for the order of equal scores, which a plain ZSET does not keep."""
    assert ours.keys() == theirs.keys(), (ours, theirs)
    assert {(row["userId"], row["username"], row["score"]) for row in ours["rankings"]} == {
        (row["userId"], row["username"], row["score"]) for row in theirs["rankings"]
    }
