"""``python -m podium.scoreboard``: one process of the scoreboard service."""

from podium.common.health import Health
from podium.common.server import run_service
from podium.scoreboard.app import Settings, create_app, drain
from podium.scoreboard.capacity import raise_file_limit
from podium.scoreboard.watch_protocol import WatchProtocol
from podium.scoreboard.websocket_protocol import UVICORN_OPTIONS, HandshakeProtocol


def main() -> None:
    """Serve until SIGTERM; then leave the Service and send the watchers away."""
    raise_file_limit()
    settings, health = Settings(), Health()
    run_service(
        "scoreboard",
        settings.process,
        lambda: create_app(settings, health),
        lambda app: drain(app, health, settings.process.drain_seconds, settings.watch.drain_closes_per_second),
        http=WatchProtocol,
        ws=HandshakeProtocol,
        **UVICORN_OPTIONS,
    )


if __name__ == "__main__":
    main()
