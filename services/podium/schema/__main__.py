"""``python -m podium.schema``: migrate the database and make the streams, before the services roll out."""

import asyncio
import time

import structlog
from sqlalchemy.exc import OperationalError

from podium.common import logs
from podium.common.bus import connect
from podium.common.settings import DatabaseSettings, NatsSettings, ProcessSettings
from podium.schema.migrate import migrate

WAIT_SECONDS = 120
"""How long stores may take to come up before the Job fails (and its controller starts it again)."""


async def _make_streams(settings: NatsSettings) -> None:
    async with await connect(settings, "podium-schema") as bus:
        await bus.ensure_streams()


def main() -> None:
    """Migrate and make the streams; waits for stores that are still starting."""
    logs.setup("schema", ProcessSettings().log_level)
    log = structlog.get_logger("podium.schema")
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            migrate(DatabaseSettings())
            break
        except OperationalError as error:  # away, starting, or its users not made yet
            if time.monotonic() > deadline:
                raise
            log.info("waiting for the database", error=type(error.orig).__name__)
            time.sleep(1)
    log.info("the schema is up to date")
    asyncio.run(asyncio.wait_for(_make_streams(NatsSettings()), WAIT_SECONDS))
    log.info("the streams are up to date")


if __name__ == "__main__":
    main()
