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
from sqlalchemy.exc import DBAPIError, IntegrityError

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

LOOKS: Final = 3
"""How often the default partition is looked at again because rows came into it."""

PASSING: Final = frozenset(
    {
        "55P03",  # lock_not_available: running updates or a report hold it
        "40P01",  # deadlock_detected
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
_ROWS = text("SELECT count(*) FROM action_log_default")
_TIMES = text("SELECT min(accepted_at), max(accepted_at) FROM action_log_default")
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
_NO_BOUND = text("ALTER TABLE action_log_default DROP CONSTRAINT IF EXISTS action_log_default_bound")
_VALIDATE = text("ALTER TABLE action_log_default VALIDATE CONSTRAINT action_log_default_bound")
_HAS_BOUND = text(
    """
    SELECT EXISTS (SELECT FROM pg_constraint
      WHERE conrelid = 'action_log_default'::regclass AND conname = 'action_log_default_bound')
    """
)
_TRY_LOCK = text("SELECT pg_try_advisory_lock(:lock)")

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
    """Partition → rows that the default partition had collected for it, as they were counted just before."""
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
            with connection.begin():  # the lock is the session's and goes with it
                report.busy = not connection.execute(_TRY_LOCK, {"lock": SCHEMA_LOCK}).scalar_one()
            if not report.busy:
                _maintain(connection, retention, report)
    finally:
        engine.dispose()
    return report


def _maintain(connection: Connection, retention: timedelta, report: Report) -> None:
    for look in range(1, LOOKS + 1):
        try:
            _collect(connection, retention, report)
            report.created = _step(connection, partial(_extend, connection, retention))
            break
        except IntegrityError:  # a row came into the default partition since it was looked at
            if look == LOOKS:
                raise
    expired = _step(connection, partial(_expired, connection, retention))
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


def _collect(connection: Connection, retention: timedelta, report: Report) -> None:
    """Make a partition of what the default one has collected while nobody made new ones.

    No row is copied: the table is given bounds and a new default one takes its place. Its rows are looked through for a
    CHECK while updates go on, so that this is a matter of milliseconds however many there are. Until then the CHECK
    would refuse rows from a day or more ahead on: a run that ends early takes it away, or else the next one.
    """
    if _step(connection, lambda: bool(connection.execute(_HAS_BOUND).scalar_one())):
        _step(connection, lambda: connection.execute(_NO_BOUND))
    rows = _step(connection, lambda: int(connection.execute(_ROWS).scalar_one()))
    if not rows:
        return
    report.forgotten, partition = _step(connection, partial(_bound, connection, retention))
    if partition is None:
        return
    try:
        _step(connection, lambda: connection.execute(_VALIDATE))
        _step(connection, partial(_replace, connection, partition))
    except BaseException:
        _step(connection, lambda: connection.execute(_NO_BOUND))
        raise
    report.collected = {partition.name: rows - report.forgotten}


def _bound(connection: Connection, retention: timedelta) -> tuple[int, Partition | None]:
    """Forget rows of the default partition that are past the retention, and bind the others by a CHECK.

    Returns how many were forgotten, and the partition to be, None where no row is left.
    """
    now = _now(connection)
    end = partitions.end_of(_known(connection), now)
    forgotten = connection.execute(_FORGET, {"before": min(end, now - retention)}).rowcount
    oldest, newest = connection.execute(_TIMES).one()
    if oldest is None:
        return forgotten, None
    if oldest < end:
        raise StrayRows(
            f"action_log_default has rows from {oldest.isoformat()} on, which no partition covers, though there is one "
            f"up to {end.isoformat()}; make the missing partition and move them"
        )
    partition = partitions.overdue(end, newest, now, partitions.width_of(retention))
    connection.execute(
        text(
            "ALTER TABLE action_log_default ADD CONSTRAINT action_log_default_bound "
            f"CHECK (accepted_at >= '{partition.start}' AND accepted_at < '{partition.end}') NOT VALID"
        )
    )
    return forgotten, partition


def _replace(connection: Connection, partition: Partition) -> None:
    """Make the bound default partition ``partition``, and a new default one."""
    for statement in (
        "ALTER TABLE action_log DETACH PARTITION action_log_default",
        f"ALTER TABLE action_log_default RENAME TO {partition.name}",
        _attach(partition),
        f"ALTER TABLE {partition.name} DROP CONSTRAINT action_log_default_bound",
        "CREATE TABLE action_log_default PARTITION OF action_log DEFAULT",
    ):
        connection.execute(text(statement))


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
