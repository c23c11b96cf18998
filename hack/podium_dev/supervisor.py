"""The init process of a node: starts the node's processes, starts them again when they end, and reaps orphans.

It runs as process 1 of its own PID namespace and in its own mount and network namespaces (see `node.start`). When it
ends, however that happens, the kernel ends every process of the node and drops every mount.

    python3 -m podium_dev.supervisor STATE_DIRECTORY
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

_TICK_SECONDS = 0.1
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
_STEADY_SECONDS = 30.0
"""A process that ran this long starts again without a growing pause."""


@dataclass
class Unit:
    """One process of the node. `needs` is what must answer first: a Unix socket's path or `host:port`."""

    name: str
    argv: list[str]
    log: str
    needs: str | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0
    pause: float = field(default=_FIRST_PAUSE_SECONDS)


def main() -> NoReturn:
    """Prepare the mounts, then keep the units of `units.json` running until told to stop."""
    state = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _isolate_mounts(state)
    units = [Unit(**unit) for unit in json.loads((state / "units.json").read_text())]
    while True:
        for unit in units:
            if unit.process is None and time.monotonic() >= unit.not_before and _answers(unit.needs):
                _start(unit)
        _reap(units)
        time.sleep(_TICK_SECONDS)


def _isolate_mounts(state: Path) -> None:
    """Hide the host's /run, /var/log and /var/lib behind private file systems, all but our own state directory.

    Kubelet and containerd have fixed paths there (sockets, log links, device plug-ins); two nodes must not share them.
    Namespaces of other instances that are mounted below /run are let go of, or they could not be deleted.
    """
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith("/run/netns")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True)
    kept = os.open(state, os.O_PATH | os.O_DIRECTORY)
    for directory in ("/run", "/var/log", "/var/lib"):
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    if not state.is_dir():
        state.mkdir(parents=True)
        subprocess.run(
            ["mount", "--no-canonicalize", "--bind", f"/proc/self/fd/{kept}", str(state)], check=True, pass_fds=[kept]
        )
    os.close(kept)
    _mount("--make-rshared", "/")  # volumes that kubelet mounts must reach the containers
    Path("/run/containerd").mkdir()
    Path("/run/netns").mkdir()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _answers(address: str | None) -> bool:
    if address is None:
        return True
    try:
        if address.startswith("/"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address)
        else:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _start(unit: Unit) -> None:
    with Path(unit.log).open("ab") as log:
        unit.process = subprocess.Popen(
            unit.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    unit.started = time.monotonic()


def _reap(units: list[Unit]) -> None:
    """Collect every child that ended: units, and orphans that the kernel gave to process 1."""
    by_pid = {unit.process.pid: unit for unit in units if unit.process is not None}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            unit = by_pid.get(ended[0])
            if unit is None:
                continue
            code = os.waitstatus_to_exitcode(ended[1])
            if unit.process is not None:
                unit.process.returncode = code
            unit.process = None
            steady = time.monotonic() - unit.started > _STEADY_SECONDS
            unit.pause = _FIRST_PAUSE_SECONDS if steady else min(unit.pause * 2, _LONGEST_PAUSE_SECONDS)
            unit.not_before = time.monotonic() + unit.pause
            print(f"{unit.name} ended with {code}; next start in {unit.pause:.1f} s", flush=True)


if __name__ == "__main__":
    main()
