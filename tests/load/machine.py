"""What processes cost: CPU time and memory of process trees, from /proc (proc(5))."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of the processes and all that descend from them, ended children included."""
    own: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name of the program, in parentheses, may hold anything; what follows the last one may not.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        pid = int(entry.name)
        children[int(fields[1])].append(pid)
        own[pid] = sum(map(int, fields[11:15])) * _TICK_SECONDS
    return sum(own.get(pid, 0.0) for root in roots for pid in _tree(root, children))


def own_cpu_seconds(pid: int) -> float:
    """User and system time of one process without its children, in nanoseconds' resolution.

    It is the sum that /proc/PID/stat has in hundredths of a second: the process's own clock (clock_getcpuclockid(3)).
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of processes, in bytes."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES for pid in pids)


def _tree(root: int, children: dict[int, list[int]]) -> Iterable[int]:
    yield root
    for child in children.get(root, ()):
        yield from _tree(child, children)
