"""How many connections one process can hold: a file each."""

import resource
from typing import Final

OTHER_FILES: Final = 512
"""Files that are no watchers: stores, listeners, requests that are being answered, what the interpreter opens."""


def raise_file_limit() -> None:
    """Let this process open as many files as the system lets it: container runtimes give 1024 unless asked."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_at_most(wanted: int) -> int:
    """``wanted``, or fewer where this process may not open so many files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - OTHER_FILES))
