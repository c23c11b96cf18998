"""The schema's migrations, from each revision to the next and back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from podium.common.database import database_url
from podium.common.settings import DatabaseSettings
from podium.schema.migrate import alembic_config, migrate
from podium.schema.tables import metadata
from tests.integration.schema.conftest import connect
from tests.integration.schema.rows import actions, add, keys, partition_of, ranges


def _downgrade(settings: DatabaseSettings, revision: str) -> None:
    engine = create_engine(database_url(settings, driver="postgresql+psycopg"))
    with engine.connect() as connection:
        command.downgrade(alembic_config(connection), revision)
        connection.commit()
    engine.dispose()


def _is_no_partition(name: str | None, kind: str, _: object) -> bool:
    return kind != "table" or not str(name).startswith("action_log_")


def test_the_tables_are_those_that_the_queries_are_built_on(database_settings: DatabaseSettings) -> None:
    """A migrated database has the columns and indexes of ``podium.schema.tables``, and no others."""
    engine = create_engine(database_url(database_settings, driver="postgresql+psycopg"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": _is_no_partition})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrating_again_changes_nothing(database: psycopg.Connection, database_settings: DatabaseSettings) -> None:
    """The Job may run as often as it likes."""
    before = ranges(database)
    migrate(database_settings)
    assert ranges(database) == before


def test_a_new_log_takes_rows_at_once(database: psycopg.Connection) -> None:
    """Without any maintenance: of now, and for days to come."""
    add(database, [0, -1, -30])
    assert partition_of(database, 0) == "action_log_first"
    assert partition_of(database, -30) == "action_log_default"


def test_rows_of_before_are_kept(empty: psycopg.Connection, empty_database_settings: DatabaseSettings) -> None:
    """The table of revision 0002 becomes the first partition, as it is, and its rows get keys."""
    migrate(empty_database_settings, "0002")
    ages = {0, 0.5, 3, 100, 1000}
    add(empty, ages)
    (file,) = empty.execute("SELECT pg_relation_filepath('action_log')").fetchone() or ("",)
    migrate(empty_database_settings, "0003")
    assert actions(empty) == keys(empty) == ages
    assert empty.execute("SELECT pg_relation_filepath('action_log_first')").fetchone() == (file,)
    add(empty, [0.1, -1])
    assert partition_of(empty, -1) == "action_log_first"
    left = "SELECT conname FROM pg_constraint WHERE conrelid = 'action_log_first'::regclass AND contype IN ('c', 'p')"
    assert [name for (name,) in empty.execute(left)] == ["action_log_first_key"]


def test_rows_that_come_during_the_migration_get_keys(
    empty: psycopg.Connection, empty_database_settings: DatabaseSettings
) -> None:
    """The services of the version before write until the new ones run, and know nothing of keys."""
    migrate(empty_database_settings, "0002")
    add(empty, [5])
    stop = threading.Event()

    def write() -> int:
        with connect(empty_database_settings) as connection:
            number = 0
            while not stop.is_set():
                number += 1
                add(connection, [0], user=f"w{number}")
            return number

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while empty.execute("SELECT count(*) < 20 FROM action_log").fetchone() == (True,):
            assert not writer.done()
        migrate(empty_database_settings, "0003")
        stop.set()
        written = writer.result() + 1
    for table in ("action_log", "action_key"):
        assert empty.execute(f"SELECT count(*) FROM {table}").fetchone() == (written,)


def test_a_migration_that_was_killed_begins_again(
    empty: psycopg.Connection, empty_database_settings: DatabaseSettings
) -> None:
    """What it left behind does not stop the next one."""
    migrate(empty_database_settings, "0002")
    add(empty, [5])
    empty.execute("ALTER TABLE action_log ADD CONSTRAINT action_log_first_bound CHECK (accepted_at < '2100-01-01')")
    empty.execute("DROP INDEX user_score_ranking, action_log_accepted_at")
    empty.execute("CREATE INDEX action_log_first_accepted_at ON action_log (accepted_at)")
    migrate(empty_database_settings, "0003")
    assert actions(empty) == keys(empty) == {5}


def test_the_way_back(empty: psycopg.Connection, empty_database_settings: DatabaseSettings) -> None:
    """Down to 0002 and up again: every row is there, and the pair is unique in the whole table meanwhile."""
    migrate(empty_database_settings, "0003")
    ages = {0, 4, -5, -40}
    add(empty, ages)
    _downgrade(empty_database_settings, "0002")
    assert actions(empty) == ages
    with pytest.raises(psycopg.errors.UniqueViolation):
        add(empty, [4])
    migrate(empty_database_settings, "head")
    assert actions(empty) == keys(empty) == ages


def test_a_pair_is_unique_over_all_partitions(database: psycopg.Connection) -> None:
    """The second guard behind the lock on the player's row; whoever adds a row adds its key."""
    add(database, [0])
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("INSERT INTO action_log SELECT (action_log).* FROM action_log")
    again = "INSERT INTO action_log SELECT (populate).* FROM (SELECT jsonb_populate_record(action_log, %s) AS populate "
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute(again + "FROM action_log) x", ['{"accepted_at": "2100-01-01T00:00:00Z"}'])
    assert keys(database) == {0}


def test_an_update_of_a_score_is_in_place(database: psycopg.Connection) -> None:
    """HOT: neither a player's nor a score's row writes to an index when it changes."""
    database.execute("INSERT INTO player (user_id, username) SELECT 'u' || n, 'name' FROM generate_series(1, 100) n")
    database.execute(
        "INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated) "
        "SELECT 'default', 'u' || n, 'name', 0, 1, now(), now() FROM generate_series(1, 100) n"
    )
    for number in range(20):
        database.execute(
            "UPDATE user_score SET score = score + 10, version = version + 1, reached_at = now(), last_updated = now()"
        )
        database.execute(
            "UPDATE player SET total_actions = total_actions + 1, recent = array_append(recent, now()), "
            "updated_at = now(), action_times = jsonb_build_object('win', %s::int)",
            [number],
        )
    database.execute("SELECT pg_stat_force_next_flush()")
    for table in ("player", "user_score"):
        updated, hot = database.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s", [table]
        ).fetchone() or (0, 0)
        assert updated == 2000
        assert hot > 0.6 * updated, table
