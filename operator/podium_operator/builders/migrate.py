"""The migration Job: tables and streams are brought up to date before the services of a version start. Pure."""

from __future__ import annotations

from collections.abc import Mapping

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
    pod = schema_pod(inputs, COMPONENT, secrets=SECRETS, variables=VARIABLES)
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


def schema_pod(
    inputs: Inputs,
    component: str,
    *,
    secrets: tuple[str, ...],
    variables: tuple[str, ...],
    arguments: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> JSON:
    """A pod that runs ``python -m podium.schema`` once, with the shared settings that begin like ``variables``."""
    volumes, mounts = config.secret_mounts(inputs, secrets)
    shared = {k: v for k, v in config.environment(inputs).items() if k.startswith(variables)}
    own = {**shared, "OTEL_SERVICE_NAME": f"podium-{component}", **(environment or {})}
    return {
        "restartPolicy": "Never",
        "serviceAccountName": inputs.object_name(component),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(fs_group=PODIUM_UID),
        "containers": [
            {
                "name": component,
                "image": inputs.images.podium,
                "imagePullPolicy": inputs.images.pull_policy,
                "command": [PYTHON, "-m", "podium.schema", *arguments],
                "env": [
                    *({"name": name, "value": value} for name, value in own.items()),
                    *config.secret_environment(inputs, secrets),
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
