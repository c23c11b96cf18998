"""``python -m podium.scoreboard.projector``."""

from podium.common import logs, telemetry
from podium.common.server import serve
from podium.common.settings import TelemetrySettings
from podium.scoreboard.projector.app import ProjectorSettings, create_app


def main() -> None:
    """Run one projector until it is told to go."""
    settings = ProjectorSettings()
    logs.setup("projector", settings.process.log_level)
    provider = telemetry.setup("projector", settings.process, TelemetrySettings())
    try:
        serve(create_app(settings), settings.process)
    finally:
        provider.shutdown()


if __name__ == "__main__":
    main()
