"""The log of actions partitioned by time, and rows that are updated in place.

The statements are frozen here on purpose: what ``podium.schema.maintenance`` does may change, this may not.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LOCK_TIMEOUT = "2s"
"""Updates queue behind a waiting lock; the Job tries again, so better to give up early."""

FIRST_DAYS = 2
"""Days from today's start that a new table's first partition covers; maintenance goes on from there."""

FIRST_DAYS_WITH_ROWS = 8
"""The same for a table with rows. Its bound is a CHECK for as long as the rows are looked through, and a Job that was
killed just then has until that bound to be started again."""

STORAGE = (
    # Changed in place: room on each page for the next versions of its rows, cleaned before much is dead.
    ("player", "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05"),
    ("user_score", "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05"),
    # A queue: rows live for milliseconds, so cleaning goes by their number and without pauses. Truncation would take an
    # exclusive lock, here and on the replicas, for pages that are used again at once.
    (
        "outbox",
        "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0, "
        "vacuum_truncate = off",
    ),
)
RESET = (
    ("player", "autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor"),
    ("user_score", "autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor"),
    (
        "outbox",
        "autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay, vacuum_truncate",
    ),
)


KEYS = """
CREATE OR REPLACE FUNCTION action_log_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO action_key (user_id, action_id, accepted_at) SELECT user_id, action_id, accepted_at FROM added;
  RETURN NULL;
END $$
"""
TRIGGER = """
CREATE OR REPLACE TRIGGER action_log_keys AFTER INSERT ON action_log
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION action_log_keys()
"""


def upgrade() -> None:
    for table, parameters in STORAGE:
        op.execute(f"ALTER TABLE {table} SET ({parameters})")
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS action_key (
            user_id text COLLATE "C" NOT NULL,
            action_id text COLLATE "C" NOT NULL,
            accepted_at timestamptz NOT NULL,
            PRIMARY KEY (user_id, action_id)
        )
        """
    )
    op.execute("COMMENT ON TABLE action_key IS 'Where the log has an action: unique over all partitions of the log'")
    op.execute(KEYS)
    with op.get_context().autocommit_block():
        # An index on the score makes every update of a score write to both indexes (no HOT update). See docs/adr/0006.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS user_score_ranking")
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        # Beyond some 200 updates a minute the times are no longer in the row: compressing them each time costs more
        # than all else of an update.
        op.execute("ALTER TABLE player ALTER COLUMN recent SET STORAGE EXTERNAL")
        op.execute(TRIGGER)
        # From here on every new row has its key, whichever version of the services writes it.
        op.execute(
            "INSERT INTO action_key SELECT user_id, action_id, accepted_at FROM action_log "
            "ORDER BY user_id, action_id ON CONFLICT DO NOTHING"
        )
        newest = op.get_bind().execute(sa.text("SELECT max(accepted_at) FROM action_log")).scalar_one()
        bound = _bound(newest)
        op.execute("RESET lock_timeout")
    op.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    op.execute("DROP TRIGGER action_log_keys ON action_log")
    op.execute("ALTER TABLE action_log RENAME TO action_log_first")
    if newest is None:
        op.execute("ALTER TABLE action_log_first DROP CONSTRAINT action_log_pkey")
    else:  # by this index the version before finds its rows, as long as it runs
        op.execute("ALTER INDEX action_log_pkey RENAME TO action_log_first_key")
    op.execute(
        "CREATE TABLE action_log (LIKE action_log_first INCLUDING DEFAULTS INCLUDING COMMENTS) "
        "PARTITION BY RANGE (accepted_at)"
    )
    op.execute("COMMENT ON TABLE action_log IS 'ActionLog: every accepted update'")
    op.execute(f"ALTER TABLE action_log ATTACH PARTITION action_log_first FOR VALUES FROM (MINVALUE) TO ('{bound}')")
    op.execute("ALTER TABLE action_log_first DROP CONSTRAINT IF EXISTS action_log_first_bound")
    op.execute("CREATE TABLE action_log_default PARTITION OF action_log DEFAULT")
    op.execute("CREATE INDEX action_log_accepted_at ON action_log (accepted_at)")
    op.execute(TRIGGER)


def _bound(newest: datetime | None) -> str:
    """Where the first partition ends.

    The rows that are there are looked through and indexed now, while updates go on, so that attaching them under an
    exclusive lock is a matter of milliseconds. A clock that was once wrong may have left rows of the future.
    """
    now: datetime = op.get_bind().execute(sa.text("SELECT now()")).scalar_one()
    op.execute("DROP INDEX CONCURRENTLY IF EXISTS action_log_accepted_at")
    op.execute("DROP INDEX CONCURRENTLY IF EXISTS action_log_first_accepted_at")  # an invalid one, of a killed Job
    op.execute("ALTER TABLE action_log DROP CONSTRAINT IF EXISTS action_log_first_bound")
    if newest is None:
        return _midnight_after(now, FIRST_DAYS)
    op.execute("CREATE INDEX CONCURRENTLY action_log_first_accepted_at ON action_log (accepted_at)")
    bound = _midnight_after(max(now, newest), FIRST_DAYS_WITH_ROWS)
    op.execute(
        "ALTER TABLE action_log ADD CONSTRAINT action_log_first_bound "
        f"CHECK (accepted_at IS NOT NULL AND accepted_at < '{bound}') NOT VALID"
    )
    op.execute("ALTER TABLE action_log VALIDATE CONSTRAINT action_log_first_bound")
    return bound


def _midnight_after(moment: datetime, days: int) -> str:
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return str(midnight + timedelta(days=days))


def downgrade() -> None:
    op.execute("CREATE TABLE action_log_flat (LIKE action_log INCLUDING DEFAULTS INCLUDING COMMENTS)")
    op.execute("INSERT INTO action_log_flat SELECT * FROM action_log")
    op.execute("DROP TABLE action_log")
    op.execute("DROP FUNCTION action_log_keys")
    op.execute("DROP TABLE action_key")
    op.execute("ALTER TABLE action_log_flat RENAME TO action_log")
    op.execute("ALTER TABLE action_log ADD CONSTRAINT action_log_pkey PRIMARY KEY (user_id, action_id)")
    op.execute("CREATE INDEX action_log_accepted_at ON action_log USING brin (accepted_at)")
    op.execute("COMMENT ON TABLE action_log IS 'ActionLog: every accepted update'")
    op.execute(
        "CREATE INDEX user_score_ranking ON user_score (board, score DESC, reached_at, user_id) WHERE NOT hidden"
    )
    op.execute("ALTER TABLE player ALTER COLUMN recent SET STORAGE EXTENDED")
    for table, parameters in RESET:
        op.execute(f"ALTER TABLE {table} RESET ({parameters})")
