"""``python -m podium.scores``: one process of the scores service."""

from podium.common.health import Health
from podium.common.server import leaving, run_service
from podium.scores.app import Settings, create_app
from podium.scores.protocol import UpdateProtocol


def main() -> None:
    """Serve until SIGTERM; then leave the Service first, finish what is in flight, and stop."""
    settings, health = Settings(), Health()
    run_service(
        "scores",
        settings.process,
        lambda: create_app(settings, health),
        leaving(health, settings.process),
        http=UpdateProtocol,
    )


if __name__ == "__main__":
    main()
