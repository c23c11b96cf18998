"""Running an app under test: in this process on a free port, or as the process a pod would run."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.support.processes import Process, free_ports

ROOT = Path(__file__).parents[2]
"""The repository's root."""


@dataclass(frozen=True)
class RunningApp:
    """Where a running app answers."""

    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """``ws://127.0.0.1:PORT``."""
        return f"ws://127.0.0.1:{self.port}"


class _Server(uvicorn.Server):
    """A server that leaves the test process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing where uvicorn would take over SIGINT and SIGTERM."""
        yield


@contextlib.asynccontextmanager
async def run_app(app: Any, **config: Any) -> AsyncIterator[RunningApp]:
    """Serve an ASGI app with its lifespan on a free port of 127.0.0.1; ``config`` goes to ``uvicorn.Config``.

    Raises:
        RuntimeError: the app's start-up failed (its log says why).
    """
    config = {"lifespan": "on", "log_config": None, "timeout_graceful_shutdown": 5, **config}
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, **config))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the app's start-up failed")
            await asyncio.sleep(0.005)
        yield RunningApp(listener.getsockname()[1], server)
    finally:
        server.should_exit = True
        await task
        listener.close()


class Service(Process):
    """``python -m <module>`` as in a pod, on a free port; ready when ``/healthz/ready`` says so."""

    def __init__(self, module: str, env: Mapping[str, str], directory: Path) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        full = {
            "PYTHONPATH": f"{ROOT / 'services'}{os.pathsep}{ROOT / 'operator'}",
            "PODIUM_HOST": "127.0.0.1",
            "PODIUM_PORT": str(self.port),
            "PODIUM_POD": f"{module.rpartition('.')[2]}-{self.port}",
            "PODIUM_DRAIN_SECONDS": "1",
            **env,
        }
        log = directory / f"{module}-{self.port}.log"
        super().__init__([sys.executable, "-m", module], log, self._answers, env=full)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz/ready", timeout=2).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@contextlib.asynccontextmanager
async def run_service(module: str, env: Mapping[str, str], directory: Path) -> AsyncIterator[Service]:
    """Run a service's process inside the block, from the first ready answer on."""
    service = Service(module, env, directory)
    service.start()
    try:
        await asyncio.to_thread(service.wait_ready)
        yield service
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(service.stop)
