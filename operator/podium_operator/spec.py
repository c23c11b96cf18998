"""The Scoreboard resource as a typed model: the one source of the CRD's schema.

`crd.py` turns these models into the structural schema of `crds/scoreboards.yaml`; the descriptions here are what
`kubectl explain` answers.
No I/O. `ScoreboardSpec.model_validate` raises `pydantic.ValidationError` for what the API server would refuse as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

JSON = dict[str, Any]
"""A Kubernetes object, or a part of one, in its JSON form."""

DURATION_PATTERN = r"^[1-9][0-9]{0,8}(s|m|h|d)$"
"""A whole number with one unit, such as 30s, 5m, 24h or 7d."""

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
"""The subset of Kubernetes quantities that CPU, memory and storage need."""

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Duration = Annotated[str, Field(pattern=DURATION_PATTERN)]
Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN)]


def seconds(duration: str) -> int:
    """Length of a duration such as `5m`, in seconds. Raises ValueError for any other form."""
    if not re.match(DURATION_PATTERN, duration):
        raise ValueError(f"not a duration: {duration!r}")
    return int(duration[:-1]) * SECONDS_PER_UNIT[duration[-1]]


def _rules(*rules: tuple[str, str]) -> JSON:
    """CEL validations: pairs of a rule and the sentence that says what to write instead."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def _key(*names: str) -> JSON:
    """A list whose items are told apart by these fields, so server-side apply merges it item by item."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(names)}


class Model(BaseModel):
    """Base of all parts: camelCase outside, snake_case inside, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Resources(Model):
    """Compute resources of one container, as in a Pod."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict, description="Guaranteed amounts by resource name (cpu, memory)."
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict, description="Upper bounds by resource name (cpu, memory)."
    )

    def as_kubernetes(self) -> JSON:
        """The `resources` field of a container; empty maps are left out."""
        return {k: dict(v) for k, v in (("requests", self.requests), ("limits", self.limits)) if v}


def _resources(cpu: str, memory: str, memory_limit: str) -> Callable[[], Resources]:
    """Default resources: no CPU limit, because throttling would add latency for nothing."""
    return lambda: Resources(requests={"cpu": cpu, "memory": memory}, limits={"memory": memory_limit})


class Board(Model):
    """One ranking."""

    name: str = Field(pattern=DNS_LABEL_PATTERN, description="Name of the board, as clients ask for it.")
    top: int = Field(default=10, ge=1, le=1000, description="How many places a snapshot shows.")
    operator: Literal["Increment", "Best", "Latest"] = Field(
        default="Increment",
        description="How an action changes the score: Increment adds points, Best keeps the highest value, "
        "Latest takes the newest.",
    )


class PointsFrom(Model):
    """Takes the value from the data of the action; for boards with the operator Best or Latest."""

    field: str = Field(
        min_length=1, max_length=128, description="Name of the field of additionalData that holds an integer."
    )
    min: int = Field(
        default=0, ge=-9007199254740991, le=9007199254740991, description="Smallest value that is accepted."
    )
    max: int = Field(ge=-9007199254740991, le=9007199254740991, description="Largest value that is accepted.")


class Action(Model):
    """Something a user can do to change a score."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            (
                "has(self.points) != has(self.pointsFrom)",
                "give an action either points (a fixed number) or pointsFrom (a field of its data)",
            ),
            (
                "!has(self.pointsFrom) || self.pointsFrom.min <= self.pointsFrom.max",
                "pointsFrom.min must not be above pointsFrom.max",
            ),
        )
    )
    type: str = Field(pattern=NAME_PATTERN, description="Name of the action, as clients send it.")
    points: int | None = Field(
        default=None,
        ge=-1000000000,
        le=1000000000,
        description="Points of the action. The server decides them, never the client.",
    )
    points_from: PointsFrom | None = Field(default=None, description="Where the value comes from, instead of points.")
    boards: list[Annotated[str, Field(max_length=63)]] = Field(
        default_factory=list, max_length=32, description="Boards the action counts for; all of them if empty."
    )
    max_per_minute: int | None = Field(
        default=None, ge=1, le=10000, description="How often a user may do it in any 60 s; no own limit if absent."
    )
    cooldown_seconds: int = Field(
        default=0, ge=0, le=86400, description="Seconds a user must wait between two of this type."
    )
    data_schema: dict[str, Any] | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema of additionalData; any data if absent.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class Tier(Model):
    """A name for scores from a threshold up."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the tier.")
    min_score: int = Field(ge=-9007199254740991, le=9007199254740991, description="Lowest score of the tier.")


class SecretRef(Model):
    """A Secret of the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")


Scope = Literal["scores:write", "scoreboard:read", "analytics:read", "admin"]


class Client(Model):
    """An OAuth client, usually a game's own backend."""

    name: str = Field(pattern=r"^[A-Za-z0-9._~-]{1,63}$", description="The client's id.")
    secret_ref: SecretRef = Field(
        description="Secret with the key clientSecret (and clientId, if given, equal to the name)."
    )
    scopes: list[Scope] = Field(
        min_length=1,
        max_length=4,
        description="What tokens of this client may do at most.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Security(Model):
    """Tokens, signatures and limits."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            (
                "!self.accessTokenTTL.endsWith('d') && duration(self.accessTokenTTL) <= duration('24h')",
                "accessTokenTTL must be 24h at most, not in days; use a short one such as 5m",
            ),
        )
    )
    access_token_ttl: Duration = Field(default="5m", alias="accessTokenTTL", description="Life of an access token.")
    refresh_token_ttl: Duration = Field(
        default="24h",
        alias="refreshTokenTTL",
        description="Life of a session from its start, however often it is refreshed.",
    )
    request_signing: Literal["Required", "Optional"] = Field(
        default="Required", description="Whether score updates must be signed (RFC 9421)."
    )
    updates_per_user_per_minute: int = Field(
        default=10, ge=1, le=1000, description="Accepted score updates of one user in any 60 s, exactly."
    )
    reads_per_ip_per_minute: int = Field(
        default=600,
        ge=1,
        le=10000000,
        alias="readsPerIPPerMinute",
        description="Scoreboard reads of one address in a minute, at the gateway.",
    )
    requests_per_ip_per_minute: int = Field(
        default=6000,
        ge=1,
        le=10000000,
        alias="requestsPerIPPerMinute",
        description="All other requests of one address in a minute, at the gateway.",
    )
    max_connections_per_user: int = Field(
        default=5, ge=1, le=10000, description="Live connections of one user across all pods."
    )
    max_connections_per_ip: int = Field(
        default=50,
        ge=1,
        le=1000000,
        alias="maxConnectionsPerIP",
        description="Live connections of one address across all pods.",
    )
    anomalies: Literal["Log", "Enforce"] = Field(
        default="Enforce", description="Whether suspicious behaviour is only logged or also blocked."
    )
    clients: list[Client] = Field(
        default_factory=list, max_length=64, description="OAuth clients.", json_schema_extra=_key("name")
    )


_SCALING_RULE = (
    "self.minReplicas <= self.maxReplicas",
    "minReplicas must not be above maxReplicas; raise maxReplicas or lower minReplicas",
)


class Service(Model):
    """Scaling and size of one service."""

    model_config = ConfigDict(json_schema_extra=_rules(_SCALING_RULE))
    min_replicas: int = Field(default=2, ge=1, le=1000, description="Least number of pods.")
    max_replicas: int = Field(default=10, ge=1, le=1000, description="Largest number of pods.")
    target_cpu_utilization: int = Field(
        default=70,
        ge=1,
        le=1000,
        alias="targetCPUUtilization",
        description="Average CPU use the autoscaler aims for, in percent of the request.",
    )
    resources: Resources = Field(
        default_factory=_resources("100m", "128Mi", "512Mi"), description="Compute resources of each pod."
    )


class Services(Model):
    """The application's services."""

    scores: Service = Field(default_factory=Service, description="Takes score updates.")
    scoreboard: Service = Field(default_factory=Service, description="Serves rankings and holds WebSockets.")
    projector: Service = Field(default_factory=Service, description="Applies score events to Redis.")
    auth: Service = Field(default_factory=Service, description="Issues tokens.")
    analytics: Service = Field(default_factory=Service, description="Keeps metrics and serves reports.")


class Gateway(Model):
    """The entrance (Envoy)."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            (
                "self.exposure != 'Ingress' || has(self.host)",
                "exposure Ingress needs gateway.host, or set exposure to None",
            ),
            (
                "!has(self.tlsSecretName) || self.exposure == 'Ingress'",
                "tlsSecretName is used by exposure Ingress only; set exposure to Ingress or remove it",
            ),
        )
    )
    replicas: int = Field(default=2, ge=1, le=100, description="Number of Envoy pods.")
    exposure: Literal["Ingress", "None"] = Field(
        default="None",
        description="How the gateway is reached from outside: an Ingress object, or only by its Service.",
    )
    class_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="Class of the Ingress; the cluster's default if absent."
    )
    host: str | None = Field(
        default=None, pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", description="Public host name."
    )
    tls_secret_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Secret with the certificate of the host (kubernetes.io/tls).",
    )
    trusted_proxies: list[Annotated[str, Field(max_length=43)]] = Field(
        default_factory=list,
        max_length=64,
        description="Networks (CIDR) of proxies in front whose X-Forwarded-For is believed.",
        json_schema_extra={
            "x-kubernetes-list-type": "set",
            **_rules(("self.all(n, isCIDR(n))", "write networks as CIDR, for example 10.0.0.0/8")),
        },
    )
    resources: Resources = Field(
        default_factory=_resources("50m", "96Mi", "512Mi"), description="Compute resources of each Envoy pod."
    )


class Redis(Model):
    """The Redis Cluster that holds the rankings as a view of PostgreSQL."""

    shards: int = Field(
        default=3,
        ge=3,
        le=64,
        description="Number of primaries. It cannot be changed later.",
        json_schema_extra=_rules(("self == oldSelf", "shards cannot be changed after creation; make a new Scoreboard")),
    )
    replicas_per_shard: int = Field(
        default=1,
        ge=0,
        le=3,
        description="Replicas of each primary. It cannot be changed later.",
        json_schema_extra=_rules(
            ("self == oldSelf", "replicasPerShard cannot be changed after creation; make a new Scoreboard")
        ),
    )
    storage: Quantity = Field(
        default="1Gi",
        description="Size of each pod's volume. It cannot be changed later.",
        json_schema_extra=_rules(
            ("self == oldSelf", "storage cannot be changed after creation; resize the volumes themselves")
        ),
    )
    resources: Resources = Field(
        default_factory=_resources("50m", "64Mi", "256Mi"), description="Compute resources of each pod."
    )


class Nats(Model):
    """NATS with JetStream, which carries the events."""

    replicas: int = Field(
        default=3,
        description="Number of servers: 1, 3 or 5. It cannot be changed later.",
        json_schema_extra=_rules(
            ("self in [1, 3, 5]", "NATS needs an odd number of servers: 1, 3 or 5"),
            ("self == oldSelf", "replicas cannot be changed after creation; make a new Scoreboard"),
        ),
    )
    storage: Quantity = Field(
        default="2Gi",
        description="Size of each server's volume. It cannot be changed later.",
        json_schema_extra=_rules(
            ("self == oldSelf", "storage cannot be changed after creation; resize the volumes themselves")
        ),
    )
    resources: Resources = Field(
        default_factory=_resources("50m", "64Mi", "256Mi"), description="Compute resources of each server."
    )


class Postgres(Model):
    """PostgreSQL under Patroni: the truth about every score."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
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
        json_schema_extra=_rules(
            ("self == oldSelf", "storage cannot be changed after creation; resize the volumes themselves")
        ),
    )
    resources: Resources = Field(
        default_factory=_resources("50m", "128Mi", "512Mi"), description="Compute resources of each instance."
    )


class Cdn(Model):
    """Caching of rankings by a CDN in front."""

    s_max_age: Duration = Field(
        default="1s", alias="sMaxAge", description="How long a shared cache may serve a ranking (s-maxage)."
    )
    stale_while_revalidate: Duration = Field(
        default="5s", description="How long it may serve it stale while it fetches a new one."
    )


class Observability(Model):
    """Where telemetry goes."""

    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+$",
        max_length=253,
        description="OTLP/HTTP endpoint for traces, without a path; nothing is exported if absent.",
    )
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="Share of requests that are traced, 0 to 1."
    )


def _default_boards() -> list[Board]:
    return [Board(name="default")]


class ScoreboardSpec(Model):
    """What the Scoreboard should be."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            (
                "self.actions.all(a, a.boards.all(b, self.boards.exists(x, x.name == b)))",
                "an action names a board that is not in spec.boards; add the board or correct the name",
            ),
            (
                "self.actions.all(a, has(a.pointsFrom) ? "
                "self.boards.all(b, b.operator != 'Increment' || "
                "(size(a.boards) > 0 && !(b.name in a.boards))) : true)",
                "pointsFrom is for boards with the operator Best or Latest; "
                "give the action points, or name other boards",
            ),
        )
    )
    version: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
        description="Application version to run (an image tag). If absent, the operator's own at creation, "
        "pinned in status.version.",
    )
    paused: bool = Field(default=False, description="Keeps what runs, stops applying changes of the spec.")
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="Whether data volumes, with the Secrets without which they are useless, outlive the Scoreboard.",
    )
    boards: list[Board] = Field(
        default_factory=_default_boards,
        min_length=1,
        max_length=32,
        description="The rankings.",
        json_schema_extra=_key("name"),
    )
    actions: list[Action] = Field(
        default_factory=list,
        max_length=100,
        description="What users can do. An unknown type is refused.",
        json_schema_extra=_key("type"),
    )
    tiers: list[Tier] = Field(
        default_factory=list, max_length=64, description="Names for ranges of scores.", json_schema_extra=_key("name")
    )
    security: Security = Field(default_factory=Security, description="Tokens, signatures and limits.")
    services: Services = Field(default_factory=Services, description="Scaling and size of the services.")
    gateway: Gateway = Field(default_factory=Gateway, description="The entrance.")
    redis: Redis = Field(default_factory=Redis, description="The Redis Cluster.")
    nats: Nats = Field(default_factory=Nats, description="NATS with JetStream.")
    postgres: Postgres = Field(default_factory=Postgres, description="PostgreSQL under Patroni.")
    cdn: Cdn = Field(default_factory=Cdn, description="Caching by a CDN.")
    observability: Observability = Field(default_factory=Observability, description="Telemetry.")
