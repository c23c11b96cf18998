"""The CronJob that makes and drops partitions of the log of actions. Pure."""

from __future__ import annotations

from podium_operator.builders.base import Inputs, checksum, labels, metadata, network_policy, service_account
from podium_operator.builders.migrate import schema_pod
from podium_operator.builders.services import store_egress
from podium_operator.spec import JSON, seconds

COMPONENT = "maintenance"
SECRETS = ("postgres",)
VARIABLES = ("PODIUM_DATABASE_", "PODIUM_NAME")
"""Prefixes of the shared settings that it needs."""

RETRIES = 2
DEADLINE_SECONDS = 900
"""A run that has not ended by then is given up; the next one begins where it ended."""

LATE_SECONDS = 1800
"""How late a run may begin before it is left to the next one."""


def build(inputs: Inputs) -> list[JSON]:
    """ServiceAccount, NetworkPolicy (PostgreSQL only) and the CronJob."""
    environment = {"PODIUM_AUDIT_RETENTION": str(seconds(inputs.spec.postgres.audit_retention))}
    pod = schema_pod(
        inputs, COMPONENT, secrets=SECRETS, variables=VARIABLES, arguments=("maintain",), environment=environment
    )
    return [
        service_account(inputs, COMPONENT),
        network_policy(inputs, COMPONENT, egress=store_egress(inputs, ("postgres",))),
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": metadata(inputs, COMPONENT),
            "spec": {
                "schedule": f"{_minute(inputs)} * * * *",
                "timeZone": "Etc/UTC",
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": LATE_SECONDS,
                "successfulJobsHistoryLimit": 1,
                "failedJobsHistoryLimit": 3,
                "jobTemplate": {
                    "spec": {
                        "backoffLimit": RETRIES,
                        "activeDeadlineSeconds": DEADLINE_SECONDS,
                        "template": {"metadata": {"labels": labels(inputs.name, COMPONENT)}, "spec": pod},
                    }
                },
            },
        },
    ]


def _minute(inputs: Inputs) -> int:
    """Minute of the hour, another for each Scoreboard, so that not all of a cluster run at once."""
    return int(checksum([inputs.namespace, inputs.name]), 16) % 60
