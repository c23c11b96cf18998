"""Running commands: output goes to a log file or is returned, a failure becomes a StageError."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from podium_dev.console import Stage, StageError

_TAIL_LINES = 4


def run(
    argv: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    stage: Stage | None = None,
) -> str:
    """Run a command and return its standard output.

    `env` is added to the environment, `timeout` is in seconds. With `log`, all output is appended to that file instead
    (and the result is empty); with `stage` too, the number of lines written so far is shown as progress.

    Raises StageError if the command cannot be started, fails or runs out of time.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, **env} if env else None
    name = Path(words[0]).name
    try:
        if log is None:
            done = subprocess.run(
                words,
                env=environment,
                cwd=cwd,
                input=stdin,
                timeout=timeout,
                text=True,
                capture_output=True,
                check=False,
            )
            if done.returncode != 0:
                raise StageError(f"`{_short(words)}` failed: {_tail(done.stderr or done.stdout)}")
            return done.stdout
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a+") as output:
            start = output.tell()
            code = _run_logged(words, output.fileno(), environment, cwd, stdin, timeout, log, stage)
            if code != 0:
                output.seek(start)
                raise StageError(f"`{_short(words)}` failed ({code}): {_tail(output.read())}", log)
        return ""
    except FileNotFoundError as error:
        raise StageError(f"`{name}` is not installed ({error.filename})", log) from error
    except subprocess.TimeoutExpired as error:
        raise StageError(f"`{_short(words)}` took longer than {timeout:.0f} s", log) from error


def succeeds(argv: Sequence[str | Path], timeout: float = 20) -> bool:
    """Whether a command exists and ends with 0 within `timeout` seconds."""
    try:
        done = subprocess.run(
            [str(word) for word in argv], capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def wait_until(
    condition: Callable[[], str | None],
    *,
    timeout: float,
    stage: Stage | None = None,
    log: Path | None = None,
    every: float = 0.2,
) -> None:
    """Wait until `condition` returns None; what it returns meanwhile says what is missing.

    Raises StageError with the last thing missing after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while (missing := condition()) is not None:
        if time.monotonic() > deadline:
            raise StageError(f"gave up after {timeout:.0f} s waiting for {missing}", log)
        if stage is not None:
            stage.note(missing if missing.startswith("waiting") else f"waiting for {missing}")
        time.sleep(every)


def _run_logged(
    words: list[str],
    output: int,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: str | None,
    timeout: float | None,
    log: Path,
    stage: Stage | None,
) -> int:
    before = log.stat().st_size
    with subprocess.Popen(
        words,
        env=env,
        cwd=cwd,
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if stage is None:
                process.communicate(stdin, timeout=timeout)
                return process.returncode
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                try:
                    return process.wait(2)
                except subprocess.TimeoutExpired:
                    if deadline is not None and time.monotonic() > deadline:
                        raise
                    if stage is not None and os.isatty(2):
                        stage.note(f"{(log.stat().st_size - before) // 1024} KiB of log so far")
        except BaseException:
            process.kill()
            raise


def _short(words: Sequence[str]) -> str:
    return " ".join([Path(words[0]).name, *words[1:]])[:160]


def _tail(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return " | ".join(lines[-_TAIL_LINES:])[:600] or "no output"
