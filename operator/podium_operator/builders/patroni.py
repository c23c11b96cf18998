"""Patroni's configuration: what it decides for PostgreSQL, and how a new cluster begins. Pure."""

from __future__ import annotations

from podium_operator.builders import base, stateful
from podium_operator.builders.base import Inputs
from podium_operator.spec import JSON, Postgres

DATABASE = "podium"
USER = "podium"
"""Database and its owner, made when the cluster begins."""
PORT = 5432
API_PORT = 8008
"""TCP ports of PostgreSQL and of Patroni's REST interface."""
API_USER = "patroni"
"""User of Patroni's REST interface; its password is the superuser's."""

ROLE_LABEL = "podium.dev/role"
PRIMARY, REPLICA = "primary", "replica"
"""Label by which Patroni says which pod leads; the Services select by it."""
SCOPE_LABEL = "podium.dev/postgres-cluster"

TTL_SECONDS = 20
LOOP_SECONDS = 3
RETRY_SECONDS = 5
"""How long a silent leader keeps its lock, how often Patroni looks, how long it tries an operation again."""

CONFIG_PATH = "/etc/podium/postgres"
SECRET_PATH = "/etc/podium/secret"  # noqa: S105 - a path
DATA_PATH = "/data"
RUN_PATH = "/run/postgresql"

BOOTSTRAP = f"""\
#!/bin/sh
# Makes the application's user and database; Patroni runs it once, when the cluster begins.
# The password is read by psql itself and kept out of arguments and of the server's log.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname "$1" <<'SQL'
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
\\set password `cat {SECRET_PATH}/password`
CREATE ROLE {USER} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
CREATE DATABASE {DATABASE} OWNER {USER};
REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC;
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
SQL
"""


def scope(inputs: Inputs) -> str:
    """Patroni's name of the cluster; its ConfigMaps are `<scope>-config`, `-leader`, `-sync`, `-failover`."""
    return inputs.object_name("postgres")


def dynamic_configuration(postgres: Postgres) -> JSON:
    """What all members share and Patroni keeps in Kubernetes; the operator changes it while the cluster runs."""
    return {
        "ttl": TTL_SECONDS,
        "loop_wait": LOOP_SECONDS,
        "retry_timeout": RETRY_SECONDS,
        "primary_start_timeout": 30,
        "maximum_lag_on_failover": 2**20,
        # The primary goes on while the Kubernetes API is away, as long as it reaches every member itself.
        "failsafe_mode": True,
        "synchronous_mode": postgres.synchronous != "Off",
        "synchronous_mode_strict": postgres.synchronous == "Strict",
        "synchronous_node_count": 1,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                "max_connections": 200,
                "max_worker_processes": 8,
                "max_prepared_transactions": 0,
                "max_locks_per_transaction": 64,
                "max_wal_senders": 12,
                "max_replication_slots": 12,
                "wal_level": "replica",
                "hot_standby": "on",
                "wal_log_hints": "on",
            },
        },
    }


def server_parameters(postgres: Postgres) -> JSON:
    """postgresql.conf, sized by the container's memory and the volume."""
    memory = stateful.memory_limit(postgres.resources, "512Mi")
    return {
        "shared_buffers": f"{stateful.mebibytes(memory, 0.25)}MB",
        "effective_cache_size": f"{stateful.mebibytes(memory, 0.5)}MB",
        "work_mem": "4MB",
        "maintenance_work_mem": f"{min(256, stateful.mebibytes(memory, 0.0625))}MB",
        "min_wal_size": "80MB",
        "max_wal_size": f"{min(4096, stateful.mebibytes(postgres.storage, 0.2))}MB",
        "wal_keep_size": f"{min(512, stateful.mebibytes(postgres.storage, 0.05))}MB",
        # A replica that stays away must not fill the primary's disk; it is copied anew instead.
        "max_slot_wal_keep_size": f"{stateful.mebibytes(postgres.storage, 0.3)}MB",
        "checkpoint_completion_target": 0.9,
        "password_encryption": "scram-sha-256",
        "unix_socket_directories": RUN_PATH,
        "synchronous_commit": "on",
        "hot_standby_feedback": "on",
        "idle_in_transaction_session_timeout": "30s",
        "tcp_keepalives_idle": 15,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "off",
        "log_min_duration_statement": 1000,
        "log_parameter_max_length": 0,
        "log_parameter_max_length_on_error": 0,
        "log_checkpoints": "off",
        # The outbox and the players' rows change all the time.
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_cost_limit": 1000,
    }


def configuration(inputs: Inputs) -> JSON:
    """patroni.yaml; names, addresses and passwords come from the environment."""
    postgres = inputs.spec.postgres
    own = base.selector(inputs.name, "postgres")
    return {
        "scope": scope(inputs),
        "log": {"type": "json", "level": "INFO"},
        "restapi": {"listen": f"0.0.0.0:{API_PORT}"},
        "kubernetes": {
            "use_endpoints": False,
            "labels": own,
            "scope_label": SCOPE_LABEL,
            "role_label": ROLE_LABEL,
            "leader_label_value": PRIMARY,
            "follower_label_value": REPLICA,
        },
        "bootstrap": {
            "dcs": dynamic_configuration(postgres),
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            "post_init": f"/bin/sh {CONFIG_PATH}/bootstrap.sh",
        },
        "postgresql": {
            "listen": f"0.0.0.0:{PORT}",
            "data_dir": f"{DATA_PATH}/pgdata",
            # A new replica starts with a checkpoint at once instead of one that is spread over minutes.
            "basebackup": [{"checkpoint": "fast"}],
            "pgpass": "/tmp/pgpass",  # noqa: S108 - an emptyDir of this pod
            "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
            "parameters": server_parameters(postgres),
            "pg_hba": [
                "local all postgres scram-sha-256",
                "host replication replicator all scram-sha-256",
                f"host {DATABASE} {USER} all scram-sha-256",
                # For Patroni itself: look-ups, and pg_rewind from the new primary.
                "host all postgres all scram-sha-256",
            ],
        },
        "tags": {"nofailover": False, "clonefrom": True},
    }
