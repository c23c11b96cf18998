"""Limits of processor time, set as Kubernetes does for a pod: a control group with a quota for each period."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from podium_dev.console import say

PERIOD_MICROSECONDS = 10_000
"""Length of a period. Kubernetes' 100 ms would show as pauses of nearly that length."""

_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(pids: Sequence[int], cores: float) -> Iterator[None]:
    """Hold each process to so many cores inside the block; without limits where the machine does not allow them."""
    groups: list[Path] = []
    try:
        for pid in pids:
            groups.append(_group(f"podium-bench-{os.getpid()}-{pid}", cores))
            (groups[-1] / "cgroup.procs").write_text(str(pid))
    except OSError as refused:
        say(f"measured without limits of CPU: {refused}")
    try:
        yield
    finally:
        for group in groups:
            _dissolve(group)


def _group(name: str, cores: float) -> Path:
    """A new control group with this quota, of either version. Raises OSError."""
    quota = int(PERIOD_MICROSECONDS * cores)
    if (_ROOT / "cgroup.controllers").exists():
        group = _ROOT / name
        group.mkdir()
        (group / "cpu.max").write_text(f"{quota} {PERIOD_MICROSECONDS}")
    else:
        group = _ROOT / "cpu" / name
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    return group


def _dissolve(group: Path) -> None:
    """Give the group's processes back to the parent and remove it."""
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()
