"""Maintenance of the log of actions, on real PostgreSQL."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from podium.common.settings import DatabaseSettings
from podium.schema import maintenance
from podium.schema.maintenance import StrayRows, maintain
from tests.integration.schema.conftest import connect
from tests.integration.schema.rows import actions, add, indexes, keys, partition_of, ranges, reach
from tests.support.stores import environment_of

DAY = timedelta(days=1)


def test_partitions_are_made_ahead(database: psycopg.Connection, database_settings: DatabaseSettings) -> None:
    """Two widths, and the second run finds nothing to do."""
    report = maintain(database_settings, 90 * DAY)
    assert len(report.created) == 2
    assert reach(database) >= 30
    add(database, [0, -20])
    assert partition_of(database, 0) == "action_log_first"
    assert partition_of(database, -20) == report.created[1]
    before = ranges(database)
    again = maintain(database_settings, 90 * DAY)
    assert (again.created, again.dropped, again.collected, again.partitions) == ([], [], {}, 4)
    assert ranges(database) == before


def test_a_new_partition_is_like_the_others(database: psycopg.Connection, database_settings: DatabaseSettings) -> None:
    """Indexed by time; the keys are one table for all."""
    name = maintain(database_settings, 90 * DAY).created[0]
    assert indexes(database, name) == indexes(database, "action_log_default") == indexes(database, "action_log_first")
    add(database, [-5])
    assert partition_of(database, -5) == name
    with pytest.raises(psycopg.errors.UniqueViolation):
        add(database, [-5])


def test_what_is_past_the_retention_is_dropped_whole(
    database: psycopg.Connection, database_settings: DatabaseSettings
) -> None:
    """And nothing that is younger, nor anything that shares a partition with it."""
    _rearrange(database, [(None, -91), (-91, -76), (-76, 20)])
    add(database, [100, 95, 90, 77, 3, 0])
    report = maintain(database_settings, 90 * DAY)
    assert (report.dropped, report.keys) == (["part_0"], 2)
    assert actions(database) == keys(database) == {90, 77, 3, 0}
    assert maintain(database_settings, 90 * DAY).dropped == []


def test_keys_go_before_the_rows_they_lead_to(
    database: psycopg.Connection, database_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small steps; a run that ends in between leaves no key without a row, and the next one goes on."""
    monkeypatch.setattr(maintenance, "KEY_PAGES", 1)
    _rearrange(database, [(None, -91), (-91, 20)])
    for user in range(300):
        add(database, [100, 1], user=f"u{user}")
    monkeypatch.setattr(maintenance, "_drop", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        maintain(database_settings, 90 * DAY)
    assert (actions(database), keys(database)) == ({100, 1}, {1})
    monkeypatch.undo()
    assert maintain(database_settings, 90 * DAY).dropped == ["part_0"]
    assert actions(database) == keys(database) == {1}
    assert database.execute("SELECT count(*) FROM action_key").fetchone() == (300,)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_longer_retention_keeps_and_a_shorter_one_drops(
    database: psycopg.Connection, database_settings: DatabaseSettings
) -> None:
    """From the next run on."""
    _rearrange(database, [(None, -60), (-60, -30), (-30, 20)])
    add(database, [61, 45, 1])
    assert maintain(database_settings, 90 * DAY).dropped == []
    assert maintain(database_settings, 50 * DAY).dropped == ["part_0"]
    assert maintain(database_settings, DAY).dropped == ["part_1"]
    assert actions(database) == {1}


def test_what_the_default_partition_collected_gets_a_partition(
    database: psycopg.Connection, database_settings: DatabaseSettings
) -> None:
    """Maintenance was away for 40 days: updates went on, and no row is lost or copied."""
    _rearrange(database, [(None, -40)])
    ages = {50, 39, 20, 0, -1}
    add(database, ages)
    assert partition_of(database, 20) == "action_log_default"
    report = maintain(database_settings, 90 * DAY)
    assert list(report.collected.values()) == [4]
    assert actions(database) == ages
    assert partition_of(database, 39) == partition_of(database, -1) == next(iter(report.collected))
    assert database.execute("SELECT count(*) FROM action_log_default").fetchone() == (0,)
    assert reach(database) >= 30
    assert indexes(database, "action_log_default") == indexes(database, next(iter(report.collected)))
    add(database, [-10, -1000])
    assert maintain(database_settings, 90 * DAY).collected.keys() != report.collected.keys()


def test_a_run_that_ends_early_leaves_nothing_in_the_way(
    database: psycopg.Connection, database_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it could still tidy up or was killed: updates of all times go on, and the next run does the work."""
    _rearrange(database, [(None, -40)])
    add(database, [3])
    monkeypatch.setattr(maintenance, "_replace", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        maintain(database_settings, 90 * DAY)
    add(database, [-1000])
    database.execute("DELETE FROM action_log WHERE action_id = '-1000'")
    bound = "ALTER TABLE action_log_default ADD CONSTRAINT action_log_default_bound CHECK (accepted_at < '2100-01-01')"
    database.execute(bound)
    monkeypatch.undo()
    assert len(maintain(database_settings, 90 * DAY).collected) == 1
    assert actions(database) == {3}
    checks = "SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conname LIKE 'action_log%'"
    assert database.execute(checks).fetchone() == (0,)


def test_rows_that_come_too_late_are_forgotten(
    database: psycopg.Connection, database_settings: DatabaseSettings
) -> None:
    """A clock that was wrong for a while: what is past the retention goes from the default partition, too."""
    _rearrange(database, [(-80, 60)])
    add(database, [200, 5])
    report = maintain(database_settings, 90 * DAY)
    assert report.forgotten == 1
    assert actions(database) == keys(database) == {5}


def test_rows_between_partitions_are_left_to_a_person(
    database: psycopg.Connection, database_settings: DatabaseSettings
) -> None:
    """A partition that was removed by hand: nothing is guessed, nothing is lost, the run fails."""
    _rearrange(database, [(None, -40), (-10, 60)])
    add(database, [20])
    with pytest.raises(StrayRows, match="no partition covers"):
        maintain(database_settings, 90 * DAY)
    assert actions(database) == {20}


def test_runs_at_once_do_the_work_once(database: psycopg.Connection, database_settings: DatabaseSettings) -> None:
    """One has the lock; the others see that and leave."""
    _rearrange(database, [(None, -40)])
    add(database, [3])
    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda _: maintain(database_settings, 90 * DAY), range(6)))
    assert sum(len(report.collected) for report in reports) == 1
    assert len({name for report in reports for name in report.created}) == sum(len(r.created) for r in reports)
    assert actions(database) == {3}


def test_it_waits_for_no_lock_for_long(
    database: psycopg.Connection, database_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long report holds the log: maintenance gives way to updates, and is done when the report is."""
    monkeypatch.setattr(maintenance, "PAUSE_SECONDS", 0.05)
    _rearrange(database, [(None, -91), (-91, 20)])
    add(database, [100, 0])
    with connect(database_settings) as report, ThreadPoolExecutor(1) as pool:
        report.execute("BEGIN")
        report.execute("SELECT count(*) FROM action_log")
        running = pool.submit(maintain, database_settings, 90 * DAY)
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while database.execute(waits).fetchone() == (0,):
            pass
        add(database, [1])
        assert not running.done()
        report.execute("COMMIT")
        assert running.result().dropped == ["part_0"]
    assert actions(database) == {0, 1}


def test_updates_go_on_while_partitions_come_and_go(
    database: psycopg.Connection, database_settings: DatabaseSettings
) -> None:
    """Every insert succeeds, with prepared statements that were planned for other partitions."""
    _rearrange(database, [(None, -40)])
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        with connect(database_settings) as connection:
            connection.prepare_threshold = 0
            number = 0
            while not stop.is_set():
                number += 1
                add(connection, [0], user=f"u{number}")
                found = connection.execute(
                    "SELECT count(*) FROM action_log WHERE user_id = %s AND action_id = '0'", [f"u{number}"]
                ).fetchone()
                assert found == (1,)
            written.append(number)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while database.execute("SELECT count(*) < 20 FROM action_log").fetchone() == (True,):
            assert not writer.done()
        for retention in (90, 30, 6, 90):
            maintain(database_settings, retention * DAY)
        stop.set()
        writer.result()
    assert database.execute("SELECT count(*) FROM action_log").fetchone() == (written[0],)


def test_a_run_that_meets_no_database_says_so(database_settings: DatabaseSettings) -> None:
    """Exit code 1 and a line that names the error; no traceback, no password."""
    environment = {**environment_of(database_settings), "PODIUM_DATABASE_PORT": "1", "PYTHONPATH": "services"}
    done = _run(environment)
    assert done.returncode == 1
    assert '"error":"OperationalError"' in done.stdout.replace('": "', '":"')
    assert database_settings.password.get_secret_value() not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_program_says_what_it_did(database_settings: DatabaseSettings) -> None:
    """One JSON line; exit code 0, also when there is nothing to do."""
    environment = {
        **environment_of(database_settings),
        "PODIUM_AUDIT_RETENTION": str(6 * 86400),
        "PYTHONPATH": "services",
    }
    for created in (1, 0):
        done = _run(environment)
        assert done.returncode == 0, done.stderr
        assert f'"retention_seconds":{6 * 86400}' in done.stdout.replace('": ', '":')
        assert done.stdout.count("action_log_2") == created
    assert _run({**environment, "PODIUM_AUDIT_RETENTION": "60"}).returncode != 0


def _run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "podium.schema", "maintain"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _rearrange(database: psycopg.Connection, bounds: list[tuple[int | None, int]]) -> None:
    """Give the empty log other partitions: pairs of days from today's start, None for the beginning."""
    database.execute("DROP TABLE action_log_first")
    for number, (start, end) in enumerate(bounds):
        low, high = ("MINVALUE" if days is None else f"'{_day(database, days)}'" for days in (start, end))
        database.execute(f"CREATE TABLE part_{number} PARTITION OF action_log FOR VALUES FROM ({low}) TO ({high})")


def _day(database: psycopg.Connection, days: int) -> str:
    row = database.execute("SELECT date_trunc('day', now()) + make_interval(days => %s)", [days]).fetchone()
    assert row is not None
    return str(row[0])
