"""Runs the listeners of the fan-out bench (``tests/load/fanout-client``) and steers them through their phases."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from podium_dev import toolchain
from podium_dev.toolchain import GoSet

_CLIENT = GoSet("fanout-client", {"client": "fanout-client"}, parent=Path(__file__).parent)

CONNECTIONS_PER_SOURCE = 10_000
"""Connections from one local address at most: it has some 28,000 ports to one destination (ip(7))."""

AT_ONCE = 32
"""Handshakes under way at a time."""

_ANSWER_SECONDS = 120.0


@cache
def client_program() -> Path:
    """The client, compiled once. Raises ``podium_dev.console.StageError``."""
    return toolchain.ensure_set(_CLIENT) / "fanout-client"


@dataclass(frozen=True)
class Target:
    """Where to connect: ``host:port``, path, first message (none if empty), whether the server sends one at once."""

    address: str
    path: str = "/ws/scoreboard"
    greeting: str = ""
    awaits_message: bool = False


@dataclass(frozen=True)
class Quantiles:
    """Latencies in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Returns:
    """Connections that were lost, and came back.

    ``away`` are not back yet; ``lost`` counts reasons, ``failures`` attempts in vain; ``most_in_a_second`` is the peak
    of returns, ``seconds`` lie between the first and the last, ``gap`` is how long a connection had none. ``timeline``
    has, for each second, how many were lost and how many came back.
    """

    count: int
    away: int
    away_most: int
    lost: Mapping[str, int]
    failures: Mapping[str, int]
    most_in_a_second: int
    seconds: float
    gap: Quantiles
    timeline: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Report:
    """What came between ``begin`` and ``end``.

    ``broadcasts`` are different snapshots; ``skipped`` counts, for each connection, those that others got and it did
    not. ``until_last`` is the time until the last connection had a snapshot or a newer one. ``returns`` is None where
    lost connections do not come back.
    """

    connections: int
    broadcasts: int
    deliveries: int
    skipped: int
    heartbeats: int
    pings: int
    faults: Mapping[str, int]
    complete: bool
    delivery: Quantiles
    until_last: Quantiles
    cpu_seconds: float
    rankings: Sequence[Mapping[str, Any]] | None
    """Those of the newest snapshot; None where there was none."""
    returns: Returns | None = None


@dataclass(frozen=True)
class Connected:
    """How opening the connections went: seconds, how many are open, and errors."""

    seconds: float
    connections: int
    errors: Mapping[str, int]


class ClientFailed(RuntimeError):
    """The client could not go on; the message is its own."""


class FanoutClient:
    """A client process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def connect(
        self, target: Target, connections: int, per_second: float, *, returning: bool = False, at_once: int = AT_ONCE
    ) -> Connected:
        """Open connections, so many in a second; ``returning`` ones come back when they are lost.

        Raises ClientFailed.
        """
        plan = {
            "addresses": [target.address],
            "path": target.path,
            "subprotocol": "podium.v1",
            "sources": sources(connections, target.address),
            "connections": connections,
            "perSecond": per_second,
            "atOnce": at_once,
            "return": returning,
            "greeting": target.greeting,
            "awaitMessage": target.awaits_message,
        }
        answer = await self._ask(connections / per_second, command="connect", connect=plan)
        return Connected(answer["seconds"], answer["connections"], answer["errors"])

    async def begin(self) -> None:
        """Forget what was measured. Raises ClientFailed."""
        await self._ask(command="begin")

    async def end(self, age: tuple[int, int] = (0, 0), seconds: float = 0) -> Report:
        """Wait at most so long until every connection has the snapshot of (epoch, version), or a newer one; report.

        Raises ClientFailed.
        """
        epoch, version = age
        answer = await self._ask(seconds, command="end", epoch=epoch, version=version, timeoutSeconds=seconds)
        return report_of(answer)

    async def cut(self) -> None:
        """End all connections without a word, as a broken network does; they come back at once. Raises ClientFailed."""
        await self._ask(command="cut")

    async def disconnect(self) -> None:
        """Close all connections. Raises ClientFailed."""
        await self._ask(command="disconnect")

    async def _ask(self, seconds: float = 0, **command: Any) -> dict[str, Any]:
        """Send a command whose own time is ``seconds``, and return the answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(_ANSWER_SECONDS + seconds):
            line = await process.stdout.readline()
            if not line:
                raise ClientFailed((await process.stderr.read()).decode(errors="replace"))
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.asynccontextmanager
async def running_client() -> AsyncIterator[FanoutClient]:
    """A client process inside the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(client_program(), stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield FanoutClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def sources(connections: int, address: str) -> list[str]:
    """The local addresses that so many connections to one address (``host:port``) need; none where it is the system's
    choice: only the loopback network has as many as one likes."""
    if not address.startswith("127."):
        return []
    return [f"127.0.0.{number + 1}" for number in range(-(-connections // CONNECTIONS_PER_SOURCE))]


def report_of(answer: Mapping[str, Any]) -> Report:
    """The client's report from its JSON."""
    return Report(
        connections=answer["connections"],
        broadcasts=answer["broadcasts"],
        deliveries=answer["deliveries"],
        skipped=answer["skipped"],
        heartbeats=answer["heartbeats"],
        pings=answer["pings"],
        faults=answer["faults"],
        complete=answer["complete"],
        delivery=_quantiles(answer["delivery"]),
        until_last=_quantiles(answer["untilLast"]),
        cpu_seconds=answer["cpuSeconds"],
        rankings=answer["rankings"],
        returns=_returns(answer["returns"]),
    )


def _returns(found: Mapping[str, Any] | None) -> Returns | None:
    if found is None:
        return None
    return Returns(
        count=found["count"],
        away=found["away"],
        away_most=found["awayMost"],
        lost=found["lost"],
        failures=found["failures"],
        most_in_a_second=found["mostInASecond"],
        seconds=found["seconds"],
        gap=_quantiles(found["gap"]),
        timeline=[(lost, back) for lost, back in found["timeline"]],
    )


def _quantiles(found: Mapping[str, float]) -> Quantiles:
    return Quantiles(found["p50Ms"], found["p99Ms"], found["maxMs"])
