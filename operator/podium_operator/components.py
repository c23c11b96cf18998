"""The components of a Scoreboard: what each may look at, and how a whole revision is rendered. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from podium_operator.builders import (
    alerts,
    config,
    defaults,
    gateway,
    http_route,
    ingress,
    maintenance,
    migrate,
    nats,
    postgres,
    ratelimit,
    redis,
    services,
)
from podium_operator.builders.base import Inputs, checksum
from podium_operator.spec import JSON, Postgres, ScoreboardSpec

Builder = Callable[[Inputs], list[JSON]]


@dataclass(frozen=True)
class Component:
    """A group of objects that is rendered as one, from a declared part of the spec."""

    name: str
    builders: tuple[Builder, ...]
    fields: tuple[str, ...]
    """Fields of the spec (in Python's spelling) that the builders see; the others are at their defaults."""
    secrets: tuple[str, ...] = ()
    """Secrets (by suffix) whose change must reach running pods."""
    keeps_log: bool = False
    """Whether ``postgres.auditRetention`` concerns it; it is no reason to touch any other user of PostgreSQL."""

    def narrowed(self, inputs: Inputs) -> Inputs:
        """The inputs with all that is not declared at its default, so an undeclared dependency cannot be."""
        seen = {name: getattr(inputs.spec, name) for name in self.fields}
        if "postgres" in seen and not self.keeps_log:
            default = Postgres().audit_retention
            seen["postgres"] = inputs.spec.postgres.model_copy(update={"audit_retention": default})
        return replace(
            inputs,
            spec=ScoreboardSpec().model_copy(update=seen),
            secret_checksums={suffix: inputs.secret_checksums.get(suffix, "") for suffix in self.secrets},
            external={store: external for store, external in inputs.external.items() if store in self.fields},
        )

    def key(self, inputs: Inputs) -> str:
        """Fingerprint of what the user decides about this component.

        Images and the operator's own code are left out on purpose: with the same key the recorded objects
        stay, so a newer operator restarts nothing.
        """
        narrowed = self.narrowed(inputs)
        unseen = {} if self.keeps_log else {"postgres": {"audit_retention"}}
        # Without what is at its default: so a field that a newer operator knows besides restarts nothing either.
        spec = narrowed.spec.model_dump(mode="json", by_alias=False, exclude_defaults=True, exclude=unseen)
        part = {name: spec[name] for name in self.fields if name in spec}
        external = {store: asdict(described) for store, described in narrowed.external.items()}
        return checksum([inputs.version, part, dict(narrowed.secret_checksums), external])

    def render(self, inputs: Inputs) -> list[JSON]:
        """The objects of this component."""
        narrowed = self.narrowed(inputs)
        return [item for build in self.builders for item in build(narrowed)]


def _own(store: str, build: Builder) -> Builder:
    """The builder of one of the operator's own stores; it makes nothing where the spec names an external one."""

    def built(inputs: Inputs) -> list[JSON]:
        return build(inputs) if getattr(inputs.spec, store).external is None else []

    return built


APPLICATION_FIELDS = (
    "boards", "actions", "tiers", "security", "services", "cdn", "observability", "gateway", "redis", "nats",
    "postgres",
)  # fmt: skip

BASE = Component("base", (defaults.build,), ())
POSTGRES = Component("postgres", (_own("postgres", postgres.build),), ("postgres",))
REDIS = Component("redis", (_own("redis", redis.build),), ("redis",))
NATS = Component("nats", (_own("nats", nats.build),), ("nats",))
MIGRATION = Component("migrate", (migrate.build,), ("nats", "postgres", "observability"))
MAINTENANCE = Component("maintenance", (maintenance.build,), ("postgres",), keeps_log=True)
APPLICATION = Component(
    "application", (config.build, services.build), APPLICATION_FIELDS, ("clients", "jwt", "signing", "nats", "redis")
)
RATELIMIT = Component("ratelimit", (ratelimit.build,), ("security", "redis"))
GATEWAY = Component(
    "gateway",
    (gateway.build, ingress.build, http_route.build),
    ("gateway", "security", "observability", "services"),
    ("jwks",),
)

ALERTS = Component("alerts", (alerts.build,), ("observability", "postgres"))

STORES = (POSTGRES, REDIS, NATS)
COMPONENTS = (BASE, *STORES, MIGRATION, MAINTENANCE, APPLICATION, RATELIMIT, GATEWAY, ALERTS)
"""All components, in the order in which they are applied."""


@dataclass(frozen=True)
class Rendered:
    """A component as it was rendered once."""

    key: str
    objects: list[JSON]


def render(inputs: Inputs, recorded: Mapping[str, Rendered]) -> dict[str, Rendered]:
    """Every component: the recorded objects where nothing that the user decides has changed, else new ones."""
    result: dict[str, Rendered] = {}
    for component in COMPONENTS:
        key = component.key(inputs)
        known = recorded.get(component.name)
        result[component.name] = known if known and known.key == key else Rendered(key, component.render(inputs))
    return result
