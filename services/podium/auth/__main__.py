"""``python -m podium.auth``: one process of the auth service."""

from podium.auth.app import create_app
from podium.common.health import Health
from podium.common.server import leaving, run_service
from podium.common.settings import ProcessSettings


def main() -> None:
    """Serve until SIGTERM; then leave the Service first, finish what is in flight, and stop."""
    process, health = ProcessSettings(), Health()
    run_service("auth", process, lambda: create_app(process=process, health=health), leaving(health, process))


if __name__ == "__main__":
    main()
