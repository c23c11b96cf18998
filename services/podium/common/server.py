"""Run one FastAPI app in one process: uvicorn on uvloop, and a drain before the listener closes."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from podium.common import logs, telemetry
from podium.common.health import Health
from podium.common.settings import ProcessSettings, TelemetrySettings

KEEP_ALIVE_SECONDS = 75
"""Longer than the gateway's idle time-out of upstream connections, so the gateway always closes first."""

DEREGISTER_SECONDS = 3.0
"""How long requests are still served after SIGTERM, until the gateway has noticed."""

COLLECT_AFTER = (50_000, 20, 50)
"""Thresholds of Python's collector: objects made before it looks at the youngest, and how many such looks at a
generation precede one at the next. A batch or a broadcast makes hundreds, and as hardly any refers to itself, there is
little to find; a look at everything stops the loop for some twenty milliseconds."""

Drain = Callable[[], Awaitable[None]]


class _DrainingServer(uvicorn.Server):
    """uvicorn with a drain: on SIGTERM the app first sends its clients away, then the server stops."""

    def __init__(self, config: uvicorn.Config, on_drain: Drain | None) -> None:
        super().__init__(config)
        self._on_drain = on_drain
        self._drain: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._on_drain is None or self._drain is not None or sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
            return

        async def drain() -> None:
            assert self._on_drain is not None
            try:
                await self._on_drain()
            finally:
                self.should_exit = True

        loop = asyncio.get_running_loop()
        self._drain = loop.create_task(drain(), name="drain")


def run_service(
    service: str,
    process: ProcessSettings,
    make: Callable[[], FastAPI],
    leave: Callable[[FastAPI], Awaitable[None]] | None = None,
    **options: Any,
) -> None:
    """Set up logs and tracing of ``service``, then make its app and serve it until SIGTERM; spans are flushed last.

    ``leave`` runs on SIGTERM while requests are still served; ``options`` go to ``uvicorn.Config``.
    """
    logs.setup(service, process.log_level)
    provider = telemetry.setup(service, process, TelemetrySettings())
    try:
        app = make()
        # What is there now stays until the end: the collector need never look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        serve(app, process, (lambda: leave(app)) if leave else None, **options)
    finally:
        provider.shutdown()


def leaving(health: Health, process: ProcessSettings) -> Callable[[FastAPI], Awaitable[None]]:
    """Leave readiness, and go on serving until the gateway has noticed."""

    async def drain(_: FastAPI) -> None:
        health.draining = True
        await asyncio.sleep(min(DEREGISTER_SECONDS, process.drain_seconds))

    return drain


def serve(app: FastAPI, settings: ProcessSettings, on_drain: Drain | None = None, **options: Any) -> None:
    """Serve ``app`` until SIGTERM or SIGINT.

    ``on_drain`` runs on SIGTERM while requests are still served; ``options`` go to ``uvicorn.Config``.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
        **{"http": "httptools", "ws": "none", **options},
    )
    _DrainingServer(config, on_drain).run()
