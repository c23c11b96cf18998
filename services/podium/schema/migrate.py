"""Bring the database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from podium.common.database import CONNECT_TIMEOUT_SECONDS, database_url
from podium.common.settings import DatabaseSettings

MIGRATIONS = Path(__file__).parent / "migrations"

SCHEMA_LOCK = 0x706F6469756D
"""Advisory lock ("podium" in ASCII): migrations started at once run one after the other, and no maintenance beside."""


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def migrate(settings: DatabaseSettings, revision: str = "head") -> None:
    """Upgrade the database to ``revision``. Raises ``sqlalchemy.exc.DBAPIError`` where it cannot."""
    engine = create_engine(
        database_url(settings, driver="postgresql+psycopg"),
        connect_args={"connect_timeout": int(CONNECT_TIMEOUT_SECONDS)},
    )
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": SCHEMA_LOCK})
            connection.commit()
            try:
                command.upgrade(alembic_config(connection), revision)
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": SCHEMA_LOCK})
                connection.commit()
    finally:
        engine.dispose()
