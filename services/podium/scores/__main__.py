"""``python -m podium.scores``: one process of the scores service."""

import gc

from fastapi import FastAPI

from podium.common.health import Health
from podium.common.server import leaving, run_service
from podium.scores.app import Settings, create_app
from podium.scores.protocol import UpdateProtocol

COLLECT_AFTER = (50_000, 20, 50)
"""Thresholds of Python's collector: objects made before it looks at the youngest, and how many such looks at a
generation precede one at the next. A batch makes hundreds, and as none refers to itself, there is little to find."""


def main() -> None:
    """Serve until SIGTERM; then leave the Service first, finish what is in flight, and stop."""
    settings, health = Settings(), Health()
    run_service(
        "scores",
        settings.process,
        lambda: _make(settings, health),
        leaving(health, settings.process),
        http=UpdateProtocol,
    )


def _make(settings: Settings, health: Health) -> FastAPI:
    app = create_app(settings, health)
    # What is there now stays until the end: the collector need never look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    return app


if __name__ == "__main__":
    main()
