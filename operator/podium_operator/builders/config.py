"""Configuration of the services: ConfigMaps for their environment and rules, and the Secrets they mount. Pure."""

from __future__ import annotations

import json

from podium_operator.builders.base import Inputs, config_map
from podium_operator.spec import JSON, Model, seconds

RULES_PATH = "/etc/podium/rules"
"""Where boards, actions and tiers are mounted; as files, because an environment variable ends at 128 KiB."""

SECRETS_PATH = "/etc/podium/secrets"
"""Where Secrets are mounted, one folder each."""

SECRET_FILES: dict[str, dict[str, str]] = {
    "postgres": {"PODIUM_DATABASE_PASSWORD_FILE": "password"},
    "redis": {"PODIUM_REDIS_PASSWORD_FILE": "password"},
    "nats": {"PODIUM_NATS_PASSWORD_FILE": "password"},
    "jwt": {"PODIUM_JWT_KEYS_FILE": "keys.json"},
    "jwks": {"PODIUM_JWT_JWKS_FILE": "jwks.json"},
    "signing": {"PODIUM_SIGNING_MASTER_FILE": "master.json"},
    "clients": {"PODIUM_CLIENTS_FILE": "clients.json"},
}
"""Secret suffix → environment variable → key of the Secret. Only the keys named here are mounted."""

EXTERNAL_FILES: dict[str, dict[str, str]] = {
    "postgres": {
        "PODIUM_DATABASE_HOST_FILE": "host",
        "PODIUM_DATABASE_PORT_FILE": "port",
        "PODIUM_DATABASE_READ_HOST_FILE": "readHost",
        "PODIUM_DATABASE_READ_PORT_FILE": "readPort",
        "PODIUM_DATABASE_NAME_FILE": "database",
        "PODIUM_DATABASE_USER_FILE": "user",
        "PODIUM_DATABASE_PASSWORD_FILE": "password",
    },
    "redis": {"PODIUM_REDIS_NODES_FILE": "nodes", "PODIUM_REDIS_PASSWORD_FILE": "password"},
    "nats": {
        "PODIUM_NATS_URL_FILE": "url",
        "PODIUM_NATS_USER_FILE": "user",
        "PODIUM_NATS_PASSWORD_FILE": "password",
    },
}
"""The same for the user's Secret of an external store, as far as it has the keys."""


def url(inputs: Inputs) -> str:
    """Where the Scoreboard is reached, without a path."""
    gateway = inputs.spec.gateway
    if gateway.exposure == "Ingress" and gateway.host:
        return f"{'https' if gateway.tls_secret_name else 'http'}://{gateway.host}"
    if gateway.exposure == "HTTPRoute" and gateway.host:
        return f"https://{gateway.host}"  # the certificate is the listener's, which is the Gateway's business
    return f"http://{inputs.dns('gateway')}"


def _redis_nodes(inputs: Inputs) -> str:
    count = inputs.spec.redis.shards * (1 + inputs.spec.redis.replicas_per_shard)
    return ",".join(f"{inputs.dns(f'redis-{index}')}:6379" for index in range(count))


def _stores(inputs: Inputs) -> dict[str, str]:
    """Where the operator's own stores are; where external ones are says their Secret."""
    spec = inputs.spec
    replicas = spec.nats.external.replicas if spec.nats.external else spec.nats.replicas
    values: dict[str, str] = {}
    if not spec.postgres.external:
        values |= {
            "PODIUM_DATABASE_HOST": inputs.dns("postgres-rw"),
            "PODIUM_DATABASE_READ_HOST": inputs.dns("postgres-ro" if spec.postgres.instances > 1 else "postgres-rw"),
            "PODIUM_DATABASE_NAME": "podium",
            "PODIUM_DATABASE_USER": "podium",
        }
    if not spec.redis.external:
        values["PODIUM_REDIS_NODES"] = _redis_nodes(inputs)
    if not spec.nats.external:
        values |= {"PODIUM_NATS_URL": f"nats://{inputs.dns('nats')}:4222", "PODIUM_NATS_USER": "podium"}
    return {**values, "PODIUM_NATS_REPLICAS": str(replicas)}


def environment(inputs: Inputs) -> dict[str, str]:
    """The values that all services share; none of them is secret."""
    spec = inputs.spec
    values = {
        "PODIUM_NAME": inputs.name,
        "PODIUM_NAMESPACE": inputs.namespace,
        **_stores(inputs),
        "PODIUM_BOARDS_FILE": f"{RULES_PATH}/boards.json",
        "PODIUM_ACTIONS_FILE": f"{RULES_PATH}/actions.json",
        "PODIUM_TIERS_FILE": f"{RULES_PATH}/tiers.json",
        "PODIUM_JWT_ISSUER": url(inputs),
        "PODIUM_JWT_AUDIENCE": f"podium/{inputs.namespace}/{inputs.name}",
        "PODIUM_ACCESS_TOKEN_TTL": str(seconds(spec.security.access_token_ttl)),
        "PODIUM_REFRESH_TOKEN_TTL": str(seconds(spec.security.refresh_token_ttl)),
        "PODIUM_REQUEST_SIGNING": spec.security.request_signing,
        "PODIUM_ANOMALIES": spec.security.anomalies,
        "PODIUM_UPDATES_PER_USER_PER_MINUTE": str(spec.security.updates_per_user_per_minute),
        "PODIUM_MAX_CONNECTIONS_PER_USER": str(spec.security.max_connections_per_user),
        "PODIUM_MAX_CONNECTIONS_PER_IP": str(spec.security.max_connections_per_ip),
        "PODIUM_CDN_S_MAXAGE": str(seconds(spec.cdn.s_max_age)),
        "PODIUM_CDN_STALE_WHILE_REVALIDATE": str(seconds(spec.cdn.stale_while_revalidate)),
        "PODIUM_CDN_STALE_IF_ERROR": str(seconds(spec.cdn.stale_if_error)),
        "OTEL_TRACES_SAMPLER_ARG": str(spec.observability.trace_sample_ratio),
    }
    if spec.observability.otlp_endpoint:
        values["OTEL_EXPORTER_OTLP_ENDPOINT"] = spec.observability.otlp_endpoint
    return values


def _as_written(items: list[Model]) -> str:
    """JSON in the very form of the resource, absent fields left out."""
    return json.dumps([i.model_dump(by_alias=True, exclude_none=True) for i in items], sort_keys=True)


def rules(inputs: Inputs) -> dict[str, str]:
    """Boards, actions and tiers as JSON files."""
    return {
        "boards.json": _as_written(list(inputs.spec.boards)),
        "actions.json": _as_written(list(inputs.spec.actions)),
        "tiers.json": _as_written(list(inputs.spec.tiers)),
    }


def build(inputs: Inputs) -> list[JSON]:
    """The two ConfigMaps."""
    return [
        config_map(inputs, "config", environment(inputs)),
        config_map(inputs, "config", rules(inputs), name=inputs.object_name("rules")),
    ]


def _files(inputs: Inputs, suffix: str) -> dict[str, str]:
    """Environment variable → key, of the operator's Secret or of the one of an external store."""
    external = inputs.external.get(suffix)
    if external is None:
        return SECRET_FILES[suffix]
    return {variable: key for variable, key in EXTERNAL_FILES[suffix].items() if key in external.keys}


def secret_name(inputs: Inputs, suffix: str) -> str:
    """The Secret that holds the credentials of this suffix: the operator's, or the user's for an external store."""
    external = inputs.external.get(suffix)
    return external.secret if external else inputs.object_name(suffix)


def secret_environment(inputs: Inputs, secrets: tuple[str, ...]) -> list[JSON]:
    """Environment entries that name the files of the mounted Secrets."""
    return [
        {"name": variable, "value": f"{SECRETS_PATH}/{suffix}/{key}"}
        for suffix in secrets
        for variable, key in _files(inputs, suffix).items()
    ]


def secret_mounts(inputs: Inputs, secrets: tuple[str, ...]) -> tuple[list[JSON], list[JSON]]:
    """(volumes, mounts) of the Secrets; a whole folder is mounted, so that the pod sees a changed Secret."""
    volumes = [
        {
            "name": f"secret-{suffix}",
            "secret": {
                "secretName": secret_name(inputs, suffix),
                "defaultMode": 0o440,
                "items": [{"key": key, "path": key} for key in _files(inputs, suffix).values()],
            },
        }
        for suffix in secrets
    ]
    mounts = [
        {"name": f"secret-{suffix}", "mountPath": f"{SECRETS_PATH}/{suffix}", "readOnly": True} for suffix in secrets
    ]
    return volumes, mounts
