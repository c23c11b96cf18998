"""The migration Job: tables and streams are brought up to date before the services of a version start. Pure."""

from __future__ import annotations

from podium_operator.builders import config
from podium_operator.builders.base import (
    PODIUM_UID,
    Inputs,
    checksum,
    container_security,
    labels,
    metadata,
    network_policy,
    pod_security,
    service_account,
)
from podium_operator.builders.services import PYTHON, store_egress, telemetry_egress
from podium_operator.spec import JSON, Resources

COMPONENT = "migrate"
SECRETS = ("postgres", "nats")
RETRIES = 6
DEADLINE_SECONDS = 900
"""A migration that has not ended by then has failed."""

VARIABLES = ("PODIUM_DATABASE_", "PODIUM_NATS_", "PODIUM_NAME", "OTEL_")
"""Prefixes of the shared settings that the Job needs; the others must not make a new Job of it."""


def build(inputs: Inputs) -> list[JSON]:
    """ServiceAccount, NetworkPolicy and a Job whose name holds a checksum of its pod, because that is immutable."""
    pod = _pod(inputs)
    # Another database needs a migration of its own, though its Secret may have the old name.
    external = {store: inputs.external[store].checksum for store in SECRETS if store in inputs.external}
    digest = checksum([pod, external] if external else pod)
    return [
        service_account(inputs, COMPONENT),
        network_policy(
            inputs, COMPONENT, egress=[*store_egress(inputs, ("postgres", "nats")), *telemetry_egress(inputs)]
        ),
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata(inputs, COMPONENT, name=f"{inputs.object_name(COMPONENT)}-{digest[:10]}"),
            "spec": {
                "backoffLimit": RETRIES,
                "activeDeadlineSeconds": DEADLINE_SECONDS,
                "template": {"metadata": {"labels": labels(inputs.name, COMPONENT)}, "spec": pod},
            },
        },
    ]


def _pod(inputs: Inputs) -> JSON:
    volumes, mounts = config.secret_mounts(inputs, SECRETS)
    shared = [{"name": k, "value": v} for k, v in config.environment(inputs).items() if k.startswith(VARIABLES)]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": inputs.object_name(COMPONENT),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(fs_group=PODIUM_UID),
        "containers": [
            {
                "name": COMPONENT,
                "image": inputs.images.podium,
                "imagePullPolicy": inputs.images.pull_policy,
                "command": [PYTHON, "-m", "podium.schema"],
                "env": [
                    *shared,
                    {"name": "OTEL_SERVICE_NAME", "value": "podium-migrate"},
                    *config.secret_environment(inputs, SECRETS),
                ],
                "resources": Resources(
                    requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "512Mi"}
                ).as_kubernetes(),
                "securityContext": container_security(),
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108 (an emptyDir)
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}, *volumes],
    }
