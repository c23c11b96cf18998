"""A read replica of a test's PostgreSQL: a copy by ``pg_basebackup`` that streams from the primary."""

import os
import shutil
from pathlib import Path

import psycopg

from tests.support.processes import Process, find_binary, free_ports
from tests.support.stores import Postgres


class Replica:
    """A hot standby of ``primary`` (whose superuser is trusted), in ``directory``."""

    def __init__(self, primary: Postgres, directory: Path) -> None:
        self.port = free_ports(1)[0]
        self._primary = primary
        self._data = directory / "replica"
        self._data.mkdir(mode=0o700)
        owner = "postgres" if os.geteuid() == 0 else None
        if owner is not None:
            shutil.chown(self._data, owner, owner)
        self._copy = Process(
            [
                *(find_binary("pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres"),
                *("-D", str(self._data), "-R", "-X", "stream", "-c", "fast", "--no-sync"),
            ],
            directory / "basebackup.log",
            lambda: True,
            user=owner,
        )
        command = [find_binary("postgres"), "-D", str(self._data), "-c", f"port={self.port}", "-c", "fsync=off"]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        command += ["-c", "max_connections=300", "-c", "shared_buffers=64MB", "-c", "max_wal_senders=4"]
        self.process = Process(command, directory / "replica.log", self._answers, user=owner)

    def start(self) -> None:
        """Copy the primary and follow it."""
        self._copy.start()
        self._copy.wait_exit(seconds=120)
        self.process.start()
        self.process.wait_ready()

    def stop(self) -> None:
        """End it; the data is not wanted any more."""
        self.process.kill()

    def pause_replay(self) -> None:
        """Receive the log of the primary, but replay none of it, as a replica does that lags behind."""
        with self._admin() as connection:
            connection.execute("SELECT pg_wal_replay_pause()")

    def resume_replay(self) -> None:
        """Replay again."""
        with self._admin() as connection:
            connection.execute("SELECT pg_wal_replay_resume()")

    def _admin(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", autocommit=True, connect_timeout=5
        )

    def _answers(self) -> bool:
        try:
            self._admin().close()
        except psycopg.OperationalError:
            return False
        return True
