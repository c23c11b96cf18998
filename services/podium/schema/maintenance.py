"""Maintenance of the log of actions: partitions ahead of time, and an end for those past the retention. Does I/O.

Every step looks at what is there, so it may be repeated, and end anywhere. An exclusive lock that a step needs is held
for milliseconds; one that cannot be had at once is given up and tried again, because updates queue behind who waits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from podium.common.database import CONNECT_TIMEOUT_SECONDS, database_url
from podium.common.settings import DatabaseSettings
from podium.schema import partitions
from podium.schema.migrate import SCHEMA_LOCK
from podium.schema.partitions import Partition

LOCK_TIMEOUT: Final = "300ms"
"""How long a step waits for a lock, and updates for the step."""

ATTEMPTS: Final = 30
"""How often a step is tried."""

PAUSE_SECONDS: Final = 1.0
"""Between two attempts."""

KEY_PAGES: Final = 2048
"""Pages of the keys that one transaction looks through, some hundred thousand keys."""

PASSING: Final = frozenset(
    {
        "55P03",  # lock_not_available: running updates or a report hold it
        "40P01",  # deadlock_detected
        "23514",  # check_violation: a row came into the default partition since it was looked at
    }
)
"""SQLSTATEs of what the next attempt may not meet (PostgreSQL documentation, appendix A)."""

_PARTITIONS = text(
    """
    SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'action_log'::regclass
    """
)
_NOW = text("SELECT clock_timestamp()")
_COLLECTED = text("SELECT count(*), min(accepted_at), max(accepted_at) FROM action_log_default")
_FORGET = text(
    """
    WITH forgotten AS (DELETE FROM action_log_default WHERE accepted_at < :before RETURNING user_id, action_id)
    DELETE FROM action_key USING forgotten
    WHERE action_key.user_id = forgotten.user_id AND action_key.action_id = forgotten.action_id
    """
)
_KEY_PAGES = text("SELECT pg_relation_size('action_key') / current_setting('block_size')::int")
_DROP_KEYS = text(
    """
    DELETE FROM action_key
    WHERE ctid >= CAST(:first AS tid) AND ctid < CAST(:behind AS tid) AND accepted_at < :before
    """
)
_LOCK_LOG = text("LOCK TABLE action_log IN ACCESS EXCLUSIVE MODE")
_TRY_LOCK = text("SELECT pg_try_advisory_lock(:lock)")
_UNLOCK = text("SELECT pg_advisory_unlock(:lock)")

Result = TypeVar("Result")


class StrayRows(Exception):
    """The default partition has rows of a time between two partitions, where somebody removed one by hand."""


@dataclass
class Report:
    """What was done."""

    busy: bool = False
    """Somebody else maintains or migrates this database; nothing was done."""
    created: list[str] = field(default_factory=list)
    """Partitions that were made ahead of time."""
    dropped: list[str] = field(default_factory=list)
    """Partitions whose rows were all past the retention."""
    collected: dict[str, int] = field(default_factory=dict)
    """Partition → rows that the default partition had collected for it."""
    forgotten: int = 0
    """Rows past the retention that were deleted from the default partition."""
    keys: int = 0
    """Keys that were deleted with the dropped partitions."""
    partitions: int = 0
    """Partitions that there are now, the default one among them."""


def maintain(settings: DatabaseSettings, retention: timedelta) -> Report:
    """Bring the partitions of the log to where they should be now.

    Raises ``sqlalchemy.exc.DBAPIError`` where the database is away or a lock could not be had, StrayRows where a person
    has to look.
    """
    engine = create_engine(
        database_url(settings, driver="postgresql+psycopg"),
        connect_args={"connect_timeout": int(CONNECT_TIMEOUT_SECONDS), "application_name": "podium-maintenance"},
    )
    report = Report()
    try:
        with engine.connect() as connection:
            with connection.begin():
                report.busy = not connection.execute(_TRY_LOCK, {"lock": SCHEMA_LOCK}).scalar_one()
            if report.busy:
                return report
            try:
                _maintain(connection, retention, report)
            finally:
                with connection.begin():
                    connection.execute(_UNLOCK, {"lock": SCHEMA_LOCK})
    finally:
        engine.dispose()
    return report


def _maintain(connection: Connection, retention: timedelta, report: Report) -> None:
    collected, forgotten = _step(connection, lambda: _collect(connection, retention))
    report.collected, report.forgotten = collected, forgotten
    report.created = _step(connection, lambda: _extend(connection, retention))
    expired = _step(connection, lambda: _expired(connection, retention))
    if expired:
        # Before the rows, so that a key always leads to a row.
        report.keys = _drop_keys(connection, max(partition.end for partition in expired))
    for partition in expired:
        _step(connection, partial(_drop, connection, partition))
        report.dropped.append(partition.name)
    report.partitions = _step(connection, lambda: len(_known(connection))) + 1


def _step(connection: Connection, work: Callable[[], Result]) -> Result:
    """Do ``work`` in a transaction of its own, again where it met something that passes."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with connection.begin():
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
                connection.execute(text("SET LOCAL timezone = 'UTC'"))
                return work()
        except DBAPIError as error:
            if attempt == ATTEMPTS or getattr(error.orig, "sqlstate", None) not in PASSING:
                raise
        time.sleep(PAUSE_SECONDS)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _known(connection: Connection) -> list[Partition]:
    """The partitions but the default one."""
    found = (partitions.parse(name, bounds) for name, bounds in connection.execute(_PARTITIONS))
    return [partition for partition in found if partition is not None]


def _now(connection: Connection) -> datetime:
    now: datetime = connection.execute(_NOW).scalar_one()
    return now


def _collect(connection: Connection, retention: timedelta) -> tuple[dict[str, int], int]:
    """Make a partition of what the default one has collected while nobody made new ones.

    No row is copied: the table is given bounds and a new default one takes its place.
    """
    forgotten = 0
    now = _now(connection)
    if not connection.execute(_COLLECTED).one()[0]:
        return {}, forgotten
    connection.execute(_LOCK_LOG)
    end = partitions.end_of(_known(connection), now)
    forgotten = connection.execute(_FORGET, {"before": min(end, now - retention)}).rowcount
    rows, oldest, newest = connection.execute(_COLLECTED).one()
    if not rows:
        return {}, forgotten
    if oldest < end:
        raise StrayRows(
            f"action_log_default has rows from {oldest.isoformat()} on, which no partition covers, though there is one "
            f"up to {end.isoformat()}; make the missing partition and move them"
        )
    partition = partitions.overdue(end, newest, now, partitions.width_of(retention))
    for statement in (
        "ALTER TABLE action_log DETACH PARTITION action_log_default",
        f"ALTER TABLE action_log_default RENAME TO {partition.name}",
        _attach(partition),
        "CREATE TABLE action_log_default PARTITION OF action_log DEFAULT",
    ):
        connection.execute(text(statement))
    return {partition.name: rows}, forgotten


def _extend(connection: Connection, retention: timedelta) -> list[str]:
    """Make partitions ahead of time."""
    now = _now(connection)
    end = partitions.end_of(_known(connection), now)
    wanted = partitions.missing(end, now, partitions.width_of(retention))
    for partition in wanted:
        # Attached when it is whole: this locks the empty default partition, but not the log.
        connection.execute(text(f"CREATE TABLE {partition.name} (LIKE action_log INCLUDING ALL)"))
        connection.execute(text(_attach(partition)))
    return [partition.name for partition in wanted]


def _attach(partition: Partition) -> str:
    return (
        f"ALTER TABLE action_log ATTACH PARTITION {partition.name} "
        f"FOR VALUES FROM ('{partition.start}') TO ('{partition.end}')"
    )


def _expired(connection: Connection, retention: timedelta) -> list[Partition]:
    return partitions.expired(_known(connection), _now(connection), retention)


def _drop_keys(connection: Connection, before: datetime) -> int:
    """Delete the keys of rows accepted before a time, page by page: an index for it would cost every update."""
    pages = _step(connection, lambda: int(connection.execute(_KEY_PAGES).scalar_one()))
    deleted = 0
    for first in range(0, pages, KEY_PAGES):
        values = {"first": f"({first},0)", "behind": f"({first + KEY_PAGES},0)", "before": before}
        deleted += _step(connection, partial(_delete_keys, connection, values))
    return deleted


def _delete_keys(connection: Connection, values: dict[str, object]) -> int:
    return connection.execute(_DROP_KEYS, values).rowcount


def _drop(connection: Connection, partition: Partition) -> None:
    """Drop a partition: its files go after the locks, so size does not matter.

    DETACH CONCURRENTLY is refused for a table with a default partition.
    """
    connection.execute(text(f"DROP TABLE {partition.name}"))
