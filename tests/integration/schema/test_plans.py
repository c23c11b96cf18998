"""How the statements of the hot path find their rows: by index, whatever the server knows of the tables."""

import re

import psycopg
import pytest

from podium.common.settings import DatabaseSettings
from podium.schema.maintenance import maintain
from podium.scores import pool, sql
from tests.integration.schema.rows import ranges
from tests.integration.schema.test_maintenance import DAY

STATEMENTS = {
    name: value for name, value in vars(sql).items() if name.isupper() and isinstance(value, str) and "$1" in value
}
GROWING = ("player", "user_score", "action_log", "action_key", "outbox", "season_score")
"""Tables that have a row a user, an action or an event."""


def _plan(connection: psycopg.Connection, statement: str) -> str:
    """The plan that the service's connections keep for a statement."""
    for name, value in pool.PLANS.items():
        connection.execute(f"SET {name} = {value}")
    connection.execute(f"PREPARE statement AS {statement}")
    parameters = max(int(number) for number in re.findall(r"\$(\d+)", statement))
    rows = connection.execute(f"EXPLAIN EXECUTE statement ({', '.join(['NULL'] * parameters)})")
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_rows_are_found_by_index(database: psycopg.Connection, database_settings: DatabaseSettings, name: str) -> None:
    """Also in tables that are empty when it is planned: they fill before anybody analyses them."""
    maintain(database_settings, 90 * DAY)
    plan = _plan(database, STATEMENTS[name])
    scanned = {match[1] for match in re.finditer(r"Seq Scan on (\w+)", plan)}
    assert not [table for table in scanned if table.startswith(GROWING)], plan
    assert "Hash Join" not in plan


def test_a_look_up_asks_no_partition(database: psycopg.Connection, database_settings: DatabaseSettings) -> None:
    """Only for actions that were accepted before the log is read, and then the one partition of that time."""
    maintain(database_settings, 90 * DAY)
    assert "action_log" not in _plan(database, sql.READ)


def test_what_was_logged_is_read_from_its_partition(
    database: psycopg.Connection, database_settings: DatabaseSettings
) -> None:
    """By the index on the time; the other partitions are left out while it runs."""
    maintain(database_settings, 90 * DAY)
    lines = _plan(database, sql.READ_LOGGED).splitlines()
    assert len([line for line in lines if " on action_log_" in line]) == len(ranges(database))
    assert len([line for line in lines if "(accepted_at = asked.accepted_at)" in line]) == len(ranges(database))
