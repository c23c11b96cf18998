"""``python -m podium.scoreboard.projector``: one projector."""

from podium.common.server import run_service
from podium.scoreboard.projector.app import ProjectorSettings, create_app


def main() -> None:
    """Run one projector until it is told to go."""
    settings = ProjectorSettings()
    run_service("projector", settings.process, lambda: create_app(settings))


if __name__ == "__main__":
    main()
