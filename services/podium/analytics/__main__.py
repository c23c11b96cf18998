"""Run the analytics service: ``python -m podium.analytics``."""

import asyncio
from typing import Final

from podium.analytics.app import create_app
from podium.common import logs, telemetry
from podium.common.health import Health
from podium.common.server import serve
from podium.common.settings import ProcessSettings, TelemetrySettings

DEREGISTER_SECONDS: Final = 3.0
"""How long requests are still served after SIGTERM, until the gateway has noticed."""


def main() -> None:
    """Read the settings, compose the app and serve it until SIGTERM."""
    process = ProcessSettings()
    logs.setup("analytics", process.log_level)
    provider = telemetry.setup("analytics", process, TelemetrySettings())
    health = Health()

    async def drain() -> None:
        health.draining = True
        await asyncio.sleep(min(DEREGISTER_SECONDS, process.drain_seconds))

    serve(create_app(process=process, health=health), process, drain)
    provider.shutdown()


if __name__ == "__main__":
    main()
