"""Runs the load generator (``tests/load/load-generator``) and reads its report."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from podium_dev import toolchain
from podium_dev.toolchain import GoSet
from tests.load.scoreboard import Keys

_HERE = Path(__file__).parent
_GENERATOR = GoSet("load-generator", {"generator": "load-generator"}, parent=_HERE)
_OPPONENT = GoSet("go", {"opponent": "go"}, parent=_HERE / "opponents")

CONNECTIONS = 64
"""Keep-alive connections of a load, unless said otherwise."""


@cache
def generator_program() -> Path:
    """The load generator, compiled once. Raises ``podium_dev.console.StageError``."""
    return toolchain.ensure_set(_GENERATOR) / "load-generator"


@cache
def opponent_program() -> Path:
    """The Go opponent, compiled once. Raises ``podium_dev.console.StageError``."""
    return toolchain.ensure_set(_OPPONENT) / "go"


@dataclass(frozen=True)
class Users:
    """Who sends: ``count`` users, every ``stride``-th from number ``first`` on."""

    count: int = 10_000
    first: int = 0
    stride: int = 1


@dataclass(frozen=True)
class Load:
    """One run. ``rate`` is requests per second of an open loop, 0 for a closed one; ``requests`` 0 means no bound."""

    seconds: float
    rate: float = 0
    requests: int = 0
    connections: int = CONNECTIONS
    users: Users = field(default_factory=Users)
    read_path: str = ""
    conditional: bool = False
    show_versions: bool = False
    """Whether the report says which versions of a board the answers showed."""


@dataclass(frozen=True)
class Shown:
    """A version of a board that answers showed; the last of them arrived at ``last`` (Unix seconds)."""

    epoch: int
    version: int
    answers: int
    last: float


@dataclass(frozen=True)
class Report:
    """What the generator saw. Latencies in milliseconds, of accepted requests (200 and 304) unless named otherwise."""

    seconds: float
    accepted: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    refused_p99_ms: float
    late_p99_ms: float
    """How long after its time a request was begun; part of the latencies of an open loop."""
    statuses: Mapping[str, int]
    errors: Mapping[str, int]
    retry_after: int
    timeline: Sequence[Mapping[str, int]]
    cpu_seconds: float
    shown: Sequence[Shown] = ()

    @property
    def refused(self) -> int:
        """Answers that are no acceptance."""
        return sum(self.statuses.values()) - self.accepted


class GeneratorFailed(RuntimeError):
    """The load generator could not run; the message is its own."""


async def run_load(addresses: Sequence[str], load: Load, keys: Keys) -> Report:
    """Send a load to processes (``host:port``) and return the report. Raises GeneratorFailed."""
    config = {
        "addresses": list(addresses),
        "connections": load.connections,
        "seconds": load.seconds,
        "requests": load.requests,
        "rate": load.rate,
        "readPath": load.read_path,
        "conditional": load.conditional,
        "showVersions": load.show_versions,
        "users": load.users.count,
        "firstUser": load.users.first,
        "stride": load.users.stride,
        "action": "win",
        "session": keys.for_generator(),
    }
    process = await asyncio.create_subprocess_exec(
        generator_program(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate(json.dumps(config).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise GeneratorFailed(errors.decode(errors="replace"))
    return _report(json.loads(output))


def _report(document: Mapping[str, Any]) -> Report:
    return Report(
        seconds=document["seconds"],
        accepted=document["accepted"],
        requests_per_second=document["requestsPerSecond"],
        p50_ms=document["p50Ms"],
        p99_ms=document["p99Ms"],
        max_ms=document["maxMs"],
        refused_p99_ms=document["refusedP99Ms"],
        late_p99_ms=document["lateP99Ms"],
        statuses=document["statuses"],
        errors=document["errors"],
        retry_after=document["retryAfter"],
        timeline=document["timeline"] or [],
        cpu_seconds=document["cpuSeconds"],
        shown=[Shown(**each) for each in document["shown"] or []],
    )
