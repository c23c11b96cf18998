"""``python -m podium.scoreboard``: one process of the scoreboard service."""

from podium.common import logs, telemetry
from podium.common.health import Health
from podium.common.server import serve
from podium.common.settings import TelemetrySettings
from podium.scoreboard.app import Settings, create_app, drain
from podium.scoreboard.websocket_protocol import UVICORN_OPTIONS, FanoutProtocol


def main() -> None:
    """Serve until SIGTERM; then leave the Service and send the watchers away."""
    settings = Settings()
    logs.setup("scoreboard", settings.process.log_level)
    provider = telemetry.setup("scoreboard", settings.process, TelemetrySettings())
    health = Health()
    app = create_app(settings, health)
    try:
        serve(
            app,
            settings.process,
            lambda: drain(app, health, settings.process.drain_seconds),
            ws=FanoutProtocol,
            **UVICORN_OPTIONS,
        )
    finally:
        provider.shutdown()


if __name__ == "__main__":
    main()
