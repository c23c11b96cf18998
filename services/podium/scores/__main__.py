"""``python -m podium.scores``: one process of the scores service."""

import asyncio

from podium.common import logs, telemetry
from podium.common.health import Health
from podium.common.server import serve
from podium.common.settings import TelemetrySettings
from podium.scores.app import ENDPOINT_REMOVAL_SECONDS, Settings, create_app


def main() -> None:
    """Serve until SIGTERM; then leave the Service first, finish what is in flight, and stop."""
    settings = Settings()
    logs.setup("scores", settings.process.log_level)
    provider = telemetry.setup("scores", settings.process, TelemetrySettings())
    health = Health()

    async def drain() -> None:
        health.draining = True
        await asyncio.sleep(min(ENDPOINT_REMOVAL_SECONDS, settings.process.drain_seconds))

    try:
        serve(create_app(settings, health), settings.process, drain)
    finally:
        provider.shutdown()


if __name__ == "__main__":
    main()
