"""Who is measured: Podium's scores service in one or several processes, without batching, and the Go opponents."""

import functools
import http.client
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.load.generator import opponent_program
from tests.load.scoreboard import ROOT
from tests.support.processes import Process, free_ports


@dataclass(frozen=True)
class Contender:
    """A service under load: its name, how many processes of it run, and the command of one."""

    name: str
    processes: int
    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str]


def _python(module: str) -> Callable[[], Sequence[str]]:
    return lambda: [sys.executable, "-m", module]


def _podium(name: str, processes: int = 1, module: str = "podium.scores") -> Contender:
    path = os.pathsep.join(str(ROOT / part) for part in ("services", "operator", "hack", "."))
    return Contender(name, processes, _python(module), {"PYTHONPATH": path, "PODIUM_DRAIN_SECONDS": "0"})


def podium(processes: int) -> Contender:
    """The scores service in so many processes; ``podium`` is one, ``podium-2`` two, and so on."""
    return _podium("podium" if processes == 1 else f"podium-{processes}", processes)


UNBATCHED = _podium("podium-unbatched", module="tests.load.unbatched")
_GO_SETTINGS = {"GOGC": "400"}  # as ours, its collector is set for throughput
GO = Contender("go", 1, lambda: [str(opponent_program())], {**_GO_SETTINGS, "OPPONENT_COMMIT": "each"})
GO_BATCHED = Contender(
    "go-batched", 1, lambda: [str(opponent_program())], {**_GO_SETTINGS, "OPPONENT_COMMIT": "batched"}
)

SCOREBOARD = _podium("scoreboard", module="podium.scoreboard")
PROJECTOR = _podium("projector", module="podium.scoreboard.projector")
PLAIN_READ = _podium("fastapi-redis", module="tests.load.opponents.plain_read")
PLAIN_FANOUT = _podium("fastapi-loop", module="tests.load.opponents.plain_fanout")


class Running:
    """The processes of a contender on one database."""

    def __init__(self, contender: Contender, environment: Mapping[str, str], directory: Path) -> None:
        self.contender = contender
        self.addresses: list[str] = []
        self._processes: list[Process] = []
        for port in free_ports(contender.processes):
            full = {
                **environment,
                **contender.environment,
                "PODIUM_HOST": "127.0.0.1",
                "PODIUM_PORT": str(port),
                "PODIUM_POD": f"{contender.name}-{port}",
            }
            log = directory / f"{contender.name}-{port}.log"
            self.addresses.append(f"127.0.0.1:{port}")
            self._processes.append(Process(contender.command(), log, functools.partial(_is_ready, port), env=full))

    def start(self) -> None:
        """Start all processes and return when they are ready. Raises ``ServerFailed``."""
        for process in self._processes:
            process.start()
        for process in self._processes:
            process.wait_ready()

    def stop(self) -> None:
        """End them in their orderly way."""
        for process in self._processes:
            process.stop()

    @property
    def pids(self) -> list[int]:
        """Ids of the processes."""
        return [process.pid for process in self._processes]


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
