"""``python -m podium.schema``: migrate the database and make the streams, before the services roll out.

``python -m podium.schema maintain``: make and drop partitions of the log of actions; a CronJob runs it every hour.
"""

import argparse
import asyncio
import sys
import time
from dataclasses import asdict

import structlog
from sqlalchemy.exc import DBAPIError, OperationalError

from podium.common import logs
from podium.common.bus import connect
from podium.common.settings import DatabaseSettings, NatsSettings, ProcessSettings
from podium.schema.maintenance import StrayRows, maintain
from podium.schema.migrate import migrate
from podium.schema.settings import MaintenanceSettings

WAIT_SECONDS = 120
"""How long stores may take to come up before the Job fails (and its controller starts it again)."""


async def _make_streams(settings: NatsSettings) -> None:
    async with await connect(settings, "podium-schema") as bus:
        await bus.ensure_streams()


def _migrate() -> None:
    """Migrate and make the streams; waits for stores that are still starting."""
    log = structlog.get_logger("podium.schema")
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            migrate(DatabaseSettings())
            break
        except OperationalError as error:  # away, starting, its users not made yet, or a lock that is not free
            if time.monotonic() > deadline:
                raise
            log.info("waiting for the database", error=type(error.orig).__name__)
            time.sleep(1)
    log.info("the schema is up to date")
    asyncio.run(asyncio.wait_for(_make_streams(NatsSettings()), WAIT_SECONDS))
    log.info("the streams are up to date")


def _maintain() -> int:
    """Maintain the log of actions and say what was done; returns the exit code."""
    log = structlog.get_logger("podium.schema")
    settings = MaintenanceSettings()
    try:
        report = maintain(DatabaseSettings(), settings.retention)
    except (DBAPIError, StrayRows) as error:
        reason = type(error.orig).__name__ if isinstance(error, DBAPIError) else str(error)
        log.error("the log of actions could not be maintained", error=reason)
        return 1
    if report.busy:
        log.info("another process maintains or migrates the database")
    else:
        log.info("the log of actions is maintained", retention_seconds=settings.audit_retention, **asdict(report))
    return 0


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m podium.schema", description="Tables and streams of Podium.")
    parser.add_argument("command", nargs="?", choices=("migrate", "maintain"), default="migrate")
    command = parser.parse_args().command
    logs.setup("schema", ProcessSettings().log_level)
    if command == "maintain":
        sys.exit(_maintain())
    _migrate()


if __name__ == "__main__":
    main()
