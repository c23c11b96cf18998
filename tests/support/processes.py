"""Server processes for tests: started on free ports, stopped or killed on demand, never left behind."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS = 30.0
"""Seconds a server may take until it answers; generous, because machines of tests are busy."""

_PREFIX = "podium-test-"


class ServerFailed(RuntimeError):
    """A server did not start, or ended by itself; the message carries the end of its log."""


def free_ports(count: int) -> list[int]:
    """Return ``count`` different TCP ports that nobody listens on at 127.0.0.1 just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def find_binary(name: str) -> str:
    """Return the path of a server's program: Debian's, the virtual environment's, or the tool cache's.

    Raises:
        FileNotFoundError: it is nowhere; the message says what installs it.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    if debian:
        return str(debian[0])
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found:
        return found
    from podium_dev import toolchain

    try:
        return str(toolchain.ensure(name))
    except (KeyError, ValueError) as unknown:
        raise FileNotFoundError(f"{name} is not installed: `make tools` installs what tests need") from unknown


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A temporary directory named after this process; those of processes that were killed are removed first."""
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{_PREFIX}*"):
        owner = old.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(old, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Process:
    """One server: a command line, a log, and a check that says when it answers.

    The kernel ends it when this process dies, so a killed test run leaves no servers.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        is_ready: Callable[[], bool],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._is_ready = is_ready
        self._env = {**os.environ, **env} if env else None
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        prefix = ["setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG")]
        if user is not None and os.geteuid() == 0:
            account = pwd.getpwnam(user)
            prefix += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        self._command = [*prefix, *command]

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    def start(self) -> None:
        """Start it without waiting; ``wait_ready`` waits."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env
            )

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once the server answers.

        Raises:
            ServerFailed: it ended, or did not answer in time.
        """
        process = self._running()
        deadline = time.monotonic() + seconds
        while True:
            if process.poll() is not None:
                raise ServerFailed(f"{self._command} ended with {process.returncode}\n{self.log_end()}")
            if self._is_ready():
                return
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self._command} does not answer\n{self.log_end()}")
            time.sleep(0.02)

    def wait_exit(self, seconds: float = START_SECONDS) -> None:
        """Return once it has ended with success.

        Raises:
            ServerFailed: it ended otherwise.
        """
        if self._running().wait(timeout=seconds) != 0:
            raise ServerFailed(f"{self._command} failed\n{self.log_end()}")

    def restart(self) -> None:
        """Start it again after ``stop`` or ``kill`` and wait until it answers.

        A killed server's own children may live a moment longer and hold what it needs, as PostgreSQL's do; so a start
        that ends at once is tried again for a while.

        Raises:
            ServerFailed: it did not come back.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.start()
            try:
                return self.wait_ready()
            except ServerFailed:
                if self._running().poll() is None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """End it in its own orderly way; nothing happens if it does not run."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._running().send_signal(signal.SIGCONT)

    def log_end(self, characters: int = 4000) -> str:
        """The last part of what it wrote."""
        return self.log.read_text(errors="replace")[-characters:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailed(f"{self._command} was not started")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def paused(processes: Iterable[Process]) -> Iterator[None]:
    """Freeze servers inside the block."""
    frozen = list(processes)
    for process in frozen:
        process.pause()
    try:
        yield
    finally:
        for process in frozen:
            process.resume()
