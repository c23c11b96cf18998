"""Progress for a person: stages with elapsed time, on standard error so that standard output stays machine-readable."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BEGIN = time.monotonic()


class StageError(Exception):
    """A stage could not be finished.

    `reason` is one sentence for a person; `log` is the file that holds the details, if there is one.
    """

    def __init__(self, reason: str, log: Path | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.log = log
        self.stage: str | None = None


class Stage:
    """One step that is shown to the user while it runs."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._tty = sys.stderr.isatty()
        self._last_note = ""

    def note(self, text: str) -> None:
        """Show what the stage is doing or waiting for; repeated texts are shown once."""
        if text == self._last_note:
            return
        self._last_note = text
        if self._tty:
            sys.stderr.write(f"\r\033[K{_elapsed()}   {self.title}: {text[:100]}")
            sys.stderr.flush()
        else:
            print(f"{_elapsed()}   {self.title}: {text}", file=sys.stderr, flush=True)


@contextmanager
def stage(title: str) -> Iterator[Stage]:
    """Show a stage; a StageError that leaves it carries the stage's title."""
    shown = Stage(title)
    begin = time.monotonic()
    print(f"{_elapsed()} ▸ {title}", file=sys.stderr, flush=True)
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    try:
        yield shown
    except StageError as error:
        error.stage = error.stage or title
        raise
    print(f"{clear}{_elapsed()} ✓ {title} ({time.monotonic() - begin:.1f} s)", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line for the user."""
    print(f"{_elapsed()}   {text}", file=sys.stderr, flush=True)


def report_failure(error: StageError) -> None:
    """Print which stage failed, why, and where its log is."""
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}{_elapsed()} ✗ {error.stage or 'failed'}: {error.reason}", file=sys.stderr)
    if error.log is not None:
        print(f"         log: {error.log}", file=sys.stderr)


def _elapsed() -> str:
    return f"[{time.monotonic() - _BEGIN:6.1f} s]"
