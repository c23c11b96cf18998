"""Who takes part in the fan-out bench: the scoreboard service, centrifuge, a bare send() loop, a plain FastAPI."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from podium_dev import cache as tools
from podium_dev import toolchain
from podium_dev.shell import run
from podium_dev.toolchain import GoSet
from tests.load.contenders import PLAIN_FANOUT, SCOREBOARD, Contender
from tests.load.fanout_client import Target

_OPPONENTS = Path(__file__).parent / "opponents"
_CENTRIFUGE = GoSet("centrifuge", {"centrifuge": "centrifuge"}, parent=_OPPONENTS)
_FLOOR = _OPPONENTS / "floor"
_COMPILER = {"gcc": "/usr/bin/gcc", "libc6-dev": "/usr/include/stdio.h"}
_FLAGS = ("-O2", "-Wall", "-Wextra")

PIPE = "BENCH_PIPE"
"""Variable with the path of the pipe of payloads for a server that reads its standard input."""


@dataclass(frozen=True)
class Server:
    """A contender, and how clients and payloads come to it: by NATS, or through the pipe ``PIPE``."""

    contender: Contender
    path: str = "/ws/scoreboard"
    greeting: str = ""
    awaits_message: bool = False
    by_pipe: bool = False

    @property
    def name(self) -> str:
        """Name of the contender."""
        return self.contender.name

    def target(self, address: str) -> Target:
        """Where its clients connect, if it listens at an address."""
        return Target(address, self.path, self.greeting, self.awaits_message)


@cache
def centrifuge_program() -> Path:
    """The opponent on centrifuge, compiled once. Raises ``podium_dev.console.StageError``."""
    return toolchain.ensure_set(_CENTRIFUGE) / "centrifuge"


@cache
def floor_program() -> Path:
    """The floor, compiled once by the system's compiler. Raises ``podium_dev.console.StageError``."""
    sources = sorted(_FLOOR.iterdir())
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())

    def build(target: Path) -> None:
        toolchain.ensure_debian_packages(_COMPILER)
        log = tools.root() / "logs" / "build-floor.log"
        units = [source for source in sources if source.suffix == ".c"]
        run(["cc", *_FLAGS, "-o", target / "floor", *units], log=log)

    return tools.entry(f"tools/floor-{digest.hexdigest()[:12]}", build) / "floor"


def compile_all() -> None:
    """Compile what is not in the cache. Raises ``podium_dev.console.StageError``."""
    centrifuge_program()
    floor_program()


PODIUM = Server(replace(SCOREBOARD, name="podium"), awaits_message=True)
CENTRIFUGE = Server(
    Contender("centrifuge", 1, lambda: [str(centrifuge_program())], {}),
    path="/connection/websocket",
    greeting='{"id":1,"connect":{}}',
    awaits_message=True,
)
FLOOR = Server(
    Contender("floor", 1, lambda: ["sh", "-c", f'exec "$0" < "${PIPE}"', str(floor_program())], {}), by_pipe=True
)
PLAIN = Server(PLAIN_FANOUT)

SERVERS = {each.name: each for each in (PODIUM, CENTRIFUGE, FLOOR, PLAIN)}


class Pipe:
    """Named pipe whose lines a server reads. It is open for both ways here, so that no end waits for the other."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def write(self, line: bytes) -> None:
        """Write a line; whole, for it is smaller than the pipe's atomic size (pipe(7))."""
        os.write(self._descriptor, line + b"\n")

    def close(self) -> None:
        """The reader finds its end."""
        os.close(self._descriptor)
