"""Real stores on 127.0.0.1: a Redis Cluster (3 shards, a replica each), NATS with JetStream, and PostgreSQL.

Everything lives in a temporary directory and goes away with the process. As a program it starts them for development:
``python -m tests.support.stores`` prints the services' environment and stays until Ctrl-C.
"""

import contextlib
import functools
import itertools
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql
from pydantic import SecretStr

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings, SettingsGroup
from podium.schema.migrate import migrate
from tests.support.processes import START_SECONDS, Process, ServerFailed, find_binary, free_ports, scratch_directory

SHARDS = 3
"""Primaries of the Redis Cluster; each has one replica."""

SLOTS = 16384
"""Hash slots of a Redis Cluster (Redis Cluster specification)."""

_TEMPLATE = "podium_template"
_DATABASE_USER = "podium"


@dataclass(frozen=True)
class Overrides:
    """Settings that replace those of tests: ``postgresql.conf``, ``redis.conf``, and NATS's ``jetstream`` block."""

    postgres: Mapping[str, str] = field(default_factory=dict)
    redis: Mapping[str, str] = field(default_factory=dict)
    jetstream: Mapping[str, str] = field(default_factory=dict)


_TESTS = Overrides()


class Postgres:
    """PostgreSQL with a migrated template database, from which each test's database is copied."""

    def __init__(self, directory: Path, overrides: Overrides = _TESTS) -> None:
        self.port = free_ports(1)[0]
        self.password = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._migrated = False
        self._data = directory / "postgres"
        owner = "postgres" if os.geteuid() == 0 else None
        self._data.mkdir(mode=0o700)
        if owner is not None:
            shutil.chown(self._data, owner, owner)
        # Tests crash the server's process, not the machine: without fsync a crash of the process still loses nothing.
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "300",
            "shared_buffers": "64MB",
            "max_wal_senders": "4",
            **overrides.postgres,
        }
        self._initdb = Process(
            [
                *(find_binary("initdb"), "-D", str(self._data), "-U", "postgres", "--auth=trust"),
                *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            ],
            directory / "initdb.log",
            lambda: True,
            user=owner,
        )
        command = [find_binary("postgres"), "-D", str(self._data)]
        command += itertools.chain.from_iterable(("-c", f"{key}={value}") for key, value in options.items())
        self.process = Process(
            command, directory / "postgres.log", self._answers, user=owner, stop_signal=signal.SIGINT
        )

    def start(self) -> None:
        """Make the data directory; ``finish_start`` goes on when it is there."""
        self._initdb.start()

    def finish_start(self) -> None:
        """Start the server and create the services' user."""
        self._initdb.wait_exit()
        self.process.start()
        self.process.wait_ready()
        with self._admin() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(_DATABASE_USER), self.password)
            )

    def settings(self, database: str) -> DatabaseSettings:
        """Settings of the services for one database."""
        return DatabaseSettings(
            host="127.0.0.1", port=self.port, name=database, user=_DATABASE_USER, password=SecretStr(self.password)
        )

    def create_database(self, *, migrated: bool = True) -> str:
        """Create a database, with the schema's tables unless ``migrated`` is false, and return its name."""
        if migrated and not self._migrated:
            self._create(_TEMPLATE, "template0")
            migrate(self.settings(_TEMPLATE))
            self._migrated = True
        name = f"podium_{next(self._numbers)}"
        self._create(name, _TEMPLATE if migrated else "template0")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its sessions."""
        with self._admin() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def checkpoint(self) -> None:
        """Write all changed pages to disk now, so that a measurement does not meet another's."""
        with self._admin() as connection:
            connection.execute("CHECKPOINT")

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}")
        with self._admin() as connection:
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(template), sql.Identifier(_DATABASE_USER))
            )

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


class RedisCluster:
    """Redis Cluster: node ``i`` below ``SHARDS`` is made a primary, node ``SHARDS + i`` its replica."""

    def __init__(self, directory: Path, overrides: Overrides = _TESTS) -> None:
        self.password = secrets.token_hex(8)
        ports = free_ports(4 * SHARDS)
        self.ports, self._bus_ports = ports[: 2 * SHARDS], ports[2 * SHARDS :]
        self.processes: list[Process] = []
        for port, bus_port in zip(self.ports, self._bus_ports, strict=True):
            home = directory / f"redis-{port}"
            home.mkdir()
            config = home / "redis.conf"
            lines = [
                f"port {port}",
                f"cluster-port {bus_port}",
                "bind 127.0.0.1",
                "cluster-enabled yes",
                "cluster-node-timeout 2000",
                "cluster-replica-validity-factor 0",
                f"requirepass {self.password}",
                f"masterauth {self.password}",
                f"dir {home}",
                'save ""',
                "repl-diskless-sync yes",
                "repl-diskless-sync-delay 0",
                *(f"{key} {value}" for key, value in overrides.redis.items()),
            ]
            config.write_text("\n".join(lines) + "\n")
            self.processes.append(
                Process(
                    [find_binary("redis-server"), str(config)], home / "log", functools.partial(self._answers, port)
                )
            )

    def settings(self) -> RedisSettings:
        """Settings of the services."""
        nodes = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return RedisSettings(nodes=nodes, password=SecretStr(self.password))

    def start(self) -> None:
        """Start all nodes without waiting."""
        for process in self.processes:
            process.start()

    def finish_start(self) -> None:
        """Make one cluster of the nodes and wait until every node agrees that it is whole."""
        for process in self.processes:
            process.wait_ready()
        nodes = [self.node(index) for index in range(2 * SHARDS)]
        bounds = [SLOTS * shard // SHARDS for shard in range(SHARDS + 1)]
        for shard in range(SHARDS):
            _cluster(nodes[shard], "SET-CONFIG-EPOCH", shard + 1)
            _cluster(nodes[shard], "ADDSLOTSRANGE", bounds[shard], bounds[shard + 1] - 1)
        for node in nodes[1:]:
            _cluster(node, "MEET", "127.0.0.1", self.ports[0], self._bus_ports[0])
        _until(lambda: all(self._info(node)["cluster_known_nodes"] == str(len(nodes)) for node in nodes))
        for shard in range(SHARDS):
            primary_id = _cluster(nodes[shard], "MYID")
            _until(functools.partial(_replicate, nodes[SHARDS + shard], primary_id))
        self.wait_whole()

    def wait_whole(self) -> None:
        """Wait until every node that runs sees all slots served and every replica is in step."""
        nodes = [self.node(index) for index in range(2 * SHARDS)]
        _until(lambda: all(self._info(node)["cluster_state"] == "ok" for node in nodes))
        _until(lambda: all(_in_step(node) for node in nodes))

    def flush(self) -> None:
        """Empty the cluster."""
        for node in self.primaries():
            node.flushall()

    def primaries(self) -> list["redis.Redis"]:
        """A connection to each node that is a primary now."""
        nodes = [self.node(index) for index in range(2 * SHARDS)]
        return [node for node in nodes if node.info("replication")["role"] == "master"]

    def node(self, index: int) -> "redis.Redis":
        """A plain connection to one node."""
        return redis.Redis(
            host="127.0.0.1", port=self.ports[index], password=self.password, decode_responses=True, socket_timeout=5
        )

    def _answers(self, port: int) -> bool:
        try:
            return bool(self.node(self.ports.index(port)).ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    @staticmethod
    def _info(node: "redis.Redis") -> dict[str, str]:
        info: dict[str, str] = _cluster(node, "INFO")
        return info


class Nats:
    """One NATS server with JetStream and a user with a password."""

    def __init__(self, directory: Path, overrides: Overrides = _TESTS) -> None:
        self.port = free_ports(1)[0]
        self.user = "podium"
        self.password = secrets.token_hex(8)
        home = directory / "nats"
        home.mkdir()
        config = home / "nats.conf"
        jetstream = {"store_dir": f'"{home}"', "max_file": "1GB", "max_mem": "256MB", **overrides.jetstream}
        options = ", ".join(f"{key}: {value}" for key, value in jetstream.items())
        config.write_text(
            f'host: "127.0.0.1"\nport: {self.port}\n'
            f"jetstream {{ {options} }}\n"
            f'authorization {{ user: "{self.user}", password: "{self.password}" }}\n'
        )
        self.process = Process([find_binary("nats-server"), "-c", str(config)], home / "log", self._answers)

    def settings(self) -> NatsSettings:
        """Settings of the services."""
        return NatsSettings(
            url=f"nats://127.0.0.1:{self.port}", user=self.user, password=SecretStr(self.password), replicas=1
        )

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            return connection.recv(4) == b"INFO" and "Server is ready" in self.process.log.read_text()
        return False


class Stores:
    """The three stores, running."""

    def __init__(self, directory: Path, overrides: Overrides = _TESTS) -> None:
        self.postgres = Postgres(directory, overrides)
        self.redis = RedisCluster(directory, overrides)
        self.nats = Nats(directory, overrides)

    def start(self) -> None:
        """Start all of them at once and return when all answer."""
        self.postgres.start()
        self.redis.start()
        self.nats.process.start()
        self.postgres.finish_start()
        self.redis.finish_start()
        self.nats.process.wait_ready()

    def stop(self) -> None:
        """End all of them; the data is not wanted any more."""
        self.postgres.process.stop()
        self.nats.process.kill()
        for process in self.redis.processes:
            process.kill()

    def environment(self, database: str) -> dict[str, str]:
        """The services' environment variables for these stores and one database."""
        return {
            **environment_of(self.postgres.settings(database)),
            **environment_of(self.redis.settings()),
            **environment_of(self.nats.settings()),
        }


def environment_of(settings: SettingsGroup) -> dict[str, str]:
    """A group of settings as the environment variables that would give it."""
    prefix = settings.model_config["env_prefix"]
    values = settings.model_dump(exclude_none=True)
    return {
        f"{prefix}{key}".upper(): str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
        for key, value in values.items()
    }


@contextlib.contextmanager
def running_stores(overrides: Overrides = _TESTS) -> Iterator[Stores]:
    """Stores that run inside the ``with`` block."""
    with scratch_directory() as directory:
        stores = Stores(directory, overrides)
        try:
            stores.start()
            yield stores
        finally:
            stores.stop()


def _cluster(node: "redis.Redis", command: str, *arguments: str | int) -> Any:
    """Run ``CLUSTER <command>`` on one node; redis-py parses the answer of INFO into a mapping."""
    return node.execute_command(f"CLUSTER {command}", *arguments)


def _replicate(node: "redis.Redis", primary_id: str) -> bool:
    try:
        _cluster(node, "REPLICATE", primary_id)
    except redis.ResponseError:
        return False  # the gossip about this primary has not come yet
    return True


def _in_step(node: "redis.Redis") -> bool:
    info = node.info("replication")
    return bool(info["role"] == "master" or info["master_link_status"] == "up")


def _until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed("the Redis Cluster did not become whole")
        time.sleep(0.02)


def main() -> None:
    """Run the stores until Ctrl-C and print the environment of the services."""
    with running_stores() as stores:
        for name, value in stores.environment(stores.postgres.create_database()).items():
            print(f"export {name}={value}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
