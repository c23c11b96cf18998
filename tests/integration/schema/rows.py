"""Rows of the log, and what its partitions are."""

from collections.abc import Iterable

import psycopg

ADD = """
INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata,
  metadata_checksum, body_sha256, response)
VALUES (%(user)s, %(action)s, 'win', 10, %(at)s, %(at)s, '{}', 'x', 'x', '{"score": 10}')
"""


def add(connection: psycopg.Connection, ages: Iterable[float], user: str = "u1") -> None:
    """One row for each age in days; a negative age is in the future. The action's id is the age."""
    for age in ages:
        at = connection.execute("SELECT now() - make_interval(secs => %s)", [age * 86400]).fetchone()
        assert at is not None
        connection.execute(ADD, {"user": user, "action": f"{age}", "at": at[0]})


def actions(connection: psycopg.Connection) -> set[float]:
    """The ages of all rows that are there, as they were when the rows were added."""
    return {float(row[0]) for row in connection.execute("SELECT action_id FROM action_log")}


def keys(connection: psycopg.Connection) -> set[float]:
    """The ages of all rows that have a key."""
    return {float(row[0]) for row in connection.execute("SELECT action_id FROM action_key")}


def partition_of(connection: psycopg.Connection, age: float) -> str:
    """Name of the partition that has a row."""
    row = connection.execute("SELECT tableoid::regclass::text FROM action_log WHERE action_id = %s", [f"{age}"])
    found = row.fetchone()
    assert found is not None
    return str(found[0])


def ranges(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Name and bounds of each partition, in the order of their bounds; the default one is last."""
    rows = connection.execute(
        """
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'action_log'::regclass
        """
    ).fetchall()
    return sorted(((str(name), str(bounds)) for name, bounds in rows), key=lambda row: row[1].partition("TO")[2] or "~")


def reach(connection: psycopg.Connection) -> float:
    """Days from now to the end of the last partition."""
    last = ranges(connection)[-2][1].partition("TO ('")[2].removesuffix("')")
    row = connection.execute("SELECT extract(epoch FROM %s::timestamptz - now()) / 86400", [last]).fetchone()
    assert row is not None
    return float(row[0])


def indexes(connection: psycopg.Connection, table: str) -> set[str]:
    """Definitions of a table's indexes, without their names."""
    rows = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", [table])
    return {f"{row[0].partition(' INDEX ')[0]} USING {row[0].partition(' USING ')[2]}" for row in rows}
