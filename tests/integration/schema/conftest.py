"""Databases at a chosen revision, and a log of actions to keep."""

from collections.abc import Iterator

import psycopg
import pytest

from podium.common.settings import DatabaseSettings


@pytest.fixture
def empty(empty_database_settings: DatabaseSettings) -> Iterator[psycopg.Connection]:
    """A connection to a database without tables."""
    with connect(empty_database_settings) as connection:
        yield connection


@pytest.fixture
def database(database_settings: DatabaseSettings) -> Iterator[psycopg.Connection]:
    """A connection to a database with all tables."""
    with connect(database_settings) as connection:
        yield connection


def connect(settings: DatabaseSettings) -> psycopg.Connection:
    """A connection that commits each statement, in UTC."""
    return psycopg.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.name,
        user=settings.user,
        password=settings.password.get_secret_value(),
        autocommit=True,
        options="-c timezone=UTC",
    )
