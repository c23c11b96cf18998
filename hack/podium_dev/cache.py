"""The cache outside the repository: entries keyed by version, written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from podium_dev.console import say


def root() -> Path:
    """`$PODIUM_CACHE`, else `~/.cache/podium`."""
    configured = os.environ.get("PODIUM_CACHE")
    path = Path(configured) if configured else Path.home() / ".cache" / "podium"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextmanager
def locked(path: Path, busy: str = "") -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel releases it even if the process is killed.

    `busy` is told to the user if somebody else holds the lock.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if busy:
                    say(busy)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(handle.fileno()).st_ino:  # not deleted while we waited
                yield
                return


def entry(name: str, build: Callable[[Path], None]) -> Path:
    """The directory `name` of the cache; if it is missing, `build` fills a temporary one that is then renamed.

    One process builds at a time. What a killed run left half-written is removed first.
    """
    target = root() / name
    if target.is_dir():
        return target
    with locked(target.with_name(f".{target.name}.lock"), f"another run is making {name}; waiting for it"):
        if target.is_dir():
            return target
        for debris in target.parent.glob(f".{target.name}.tmp-*"):
            shutil.rmtree(debris)
        temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
        temporary.mkdir(parents=True)
        build(temporary)
        temporary.rename(target)
    return target
