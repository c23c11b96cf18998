"""The stores in the resource's model: the operator's own, or external ones that a Secret describes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from podium_operator.spec_base import (
    JSON,
    Duration,
    Model,
    Quantity,
    Resources,
    SecretRef,
    default_resources,
    rules,
)

ALSO_EXTERNAL = frozenset({"external", "audit_retention"})
"""Fields that mean the same for an external store."""


class ExternalStore(Model):
    """A store that others run, for this Scoreboard alone."""

    secret_ref: SecretRef = Field(description="Secret that says where the store is and how to log in.")


class ExternalNats(ExternalStore):
    """NATS with JetStream that others run."""

    replicas: Literal[1, 3, 5] = Field(
        default=1,
        description="Copies of each stream: 1, or 3 or 5 where the NATS is a cluster of as many servers.",
    )


def _literal(value: Any) -> str:
    """A value as CEL writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(name)}: {_literal(item)}" for name, item in value.items()) + "}"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _default_fields(model: type[BaseModel]) -> dict[str, str]:
    """Path of each field of the operator's own store → its default in CEL."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if isinstance(value, Resources):
            found |= {f"{name}.{part}": _literal(dict(getattr(value, part))) for part in ("requests", "limits")}
        elif name not in ALSO_EXTERNAL:
            found[field.alias or name] = _literal(value)
    return found


def _or_external(*others: tuple[str, str]) -> Callable[[JSON, type[BaseModel]], None]:
    """Rules of a store that is the operator's own or external; `others` are further ones.

    The API server fills in defaults before it checks rules, so a field counts as given where it is not the default.
    """

    def extend(schema: JSON, model: type[BaseModel]) -> None:
        fields = _default_fields(model)
        unset = " && ".join(f"self.{path} == {value}" for path, value in fields.items())
        names = ", ".join(dict.fromkeys(path.partition(".")[0] for path in fields))
        schema.update(
            rules(
                (
                    f"!has(self.external) || ({unset})",
                    f"external takes the place of the operator's own: remove {names}",
                ),
                (
                    "has(self.external) == has(oldSelf.external)",
                    "external cannot be added or removed later, because no data would be moved; make a new Scoreboard",
                ),
                *others,
            )
        )

    return extend


class Redis(Model):
    """The Redis Cluster that holds the rankings as a view of PostgreSQL."""

    model_config = ConfigDict(json_schema_extra=_or_external())
    shards: int = Field(
        default=3,
        ge=3,
        le=64,
        description="Number of primaries. It cannot be changed later.",
        json_schema_extra=rules(("self == oldSelf", "shards cannot be changed after creation; make a new Scoreboard")),
    )
    replicas_per_shard: int = Field(
        default=1,
        ge=0,
        le=3,
        description="Replicas of each primary. It cannot be changed later.",
        json_schema_extra=rules(
            ("self == oldSelf", "replicasPerShard cannot be changed after creation; make a new Scoreboard")
        ),
    )
    storage: Quantity = Field(
        default="1Gi",
        description="Size of each pod's volume. It cannot be changed later.",
        json_schema_extra=rules(
            ("self == oldSelf", "storage cannot be changed after creation; resize the volumes themselves")
        ),
    )
    resources: Resources = Field(
        default_factory=default_resources("50m", "64Mi", "256Mi"), description="Compute resources of each pod."
    )
    external: ExternalStore | None = Field(
        default=None,
        description="A Redis Cluster that others run, instead of the operator's own. Keys of the Secret: nodes "
        "(host:port of some nodes, with commas between), password (if it has one).",
    )


class Nats(Model):
    """NATS with JetStream, which carries the events."""

    model_config = ConfigDict(json_schema_extra=_or_external())
    replicas: int = Field(
        default=3,
        description="Number of servers: 1, 3 or 5. It cannot be changed later.",
        json_schema_extra=rules(
            ("self in [1, 3, 5]", "NATS needs an odd number of servers: 1, 3 or 5"),
            ("self == oldSelf", "replicas cannot be changed after creation; make a new Scoreboard"),
        ),
    )
    storage: Quantity = Field(
        default="2Gi",
        description="Size of each server's volume. It cannot be changed later.",
        json_schema_extra=rules(
            ("self == oldSelf", "storage cannot be changed after creation; resize the volumes themselves")
        ),
    )
    resources: Resources = Field(
        default_factory=default_resources("50m", "64Mi", "256Mi"), description="Compute resources of each server."
    )
    external: ExternalNats | None = Field(
        default=None,
        description="NATS with JetStream that others run, instead of the operator's own. Keys of the Secret: url "
        "(nats://host:port, several with commas between), user and password (if it has them).",
    )


class Postgres(Model):
    """PostgreSQL under Patroni: the truth about every score."""

    model_config = ConfigDict(
        json_schema_extra=_or_external(
            (
                "self.synchronous != 'Strict' || self.instances >= 3",
                "synchronous Strict needs instances of 3 or more; raise instances or use Preferred",
            )
        )
    )
    instances: int = Field(default=2, ge=1, le=9, description="One primary; the others are read replicas.")
    synchronous: Literal["Preferred", "Strict", "Off"] = Field(
        default="Preferred",
        description="Preferred waits for a synchronous replica while there is one, Strict always, Off never.",
    )
    storage: Quantity = Field(
        default="5Gi",
        description="Size of each instance's volume. It cannot be changed later.",
        json_schema_extra=rules(
            ("self == oldSelf", "storage cannot be changed after creation; resize the volumes themselves")
        ),
    )
    resources: Resources = Field(
        default_factory=default_resources("50m", "128Mi", "512Mi"), description="Compute resources of each instance."
    )
    audit_retention: Duration = Field(
        default="90d",
        description="How long the log of accepted actions is kept, a day or more. An actionId is unique per user, and "
        "a repeat gets the first answer, for as long.",
        json_schema_extra=rules(
            (
                "self.matches('^[1-9][0-9]{0,3}d$') || "
                "(self.matches('^[0-9]{1,5}h$') && duration(self) >= duration('24h'))",
                "auditRetention must be a day or more and 9999d at most, in days or hours, for example 90d",
            )
        ),
    )
    external: ExternalStore | None = Field(
        default=None,
        description="A PostgreSQL database that others run, instead of the operator's own. Keys of the Secret: host, "
        "user, password, and if they differ from the defaults port (5432), database (podium), readHost (host) and "
        "readPort (port) of read replicas.",
    )
