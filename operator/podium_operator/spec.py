"""The Scoreboard resource as a typed model: the one source of the CRD's schema.

`crd.py` turns these models into the structural schema of `crds/scoreboards.yaml`; the descriptions here are what
`kubectl explain` answers.
No I/O. `ScoreboardSpec.model_validate` raises `pydantic.ValidationError` for what the API server would refuse as well.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from podium_operator.spec_base import (
    CRON_PATTERN,
    DNS_LABEL_PATTERN,
    DURATION_PATTERN,
    JSON,
    NAME_PATTERN,
    Duration,
    Model,
    Resources,
    SecretRef,
    default_resources,
    key,
    rules,
    seconds,
)
from podium_operator.spec_cdn import Cdn
from podium_operator.spec_stores import ExternalStore, Nats, Postgres, Redis

__all__ = [
    "JSON",
    "Cdn",
    "Client",
    "ExternalStore",
    "Model",
    "Nats",
    "Postgres",
    "Redis",
    "Resources",
    "ScoreboardSpec",
    "Security",
    "Service",
    "seconds",
]


class Board(Model):
    """One ranking."""

    name: str = Field(pattern=DNS_LABEL_PATTERN, description="Name of the board, as clients ask for it.")
    top: int = Field(default=10, ge=1, le=1000, description="How many places a snapshot shows.")
    operator: Literal["Increment", "Best", "Latest"] = Field(
        default="Increment",
        description="How an action changes the score: Increment adds points, Best keeps the highest value, "
        "Latest takes the newest.",
    )
    shards: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Over how many shards the ranking is spread in Redis, so that several masters hold it; 1 if "
        "absent. For boards that are too large or too busy for one master: each read of a rank asks all shards. "
        "A change builds the ranking anew while the old one is shown.",
    )
    reset: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="When a new season begins: a cron expression of five fields in UTC, such as 0 0 * * MON, or one of "
        "@hourly, @daily, @weekly, @monthly, @yearly. Never if absent. A time that was missed is made up for once.",
        json_schema_extra=rules(
            (
                f"self.matches('{CRON_PATTERN}')",
                "write reset as five cron fields (minute hour day month weekday, in UTC), for example 0 0 * * MON, "
                "or as one of @hourly, @daily, @weekly, @monthly, @yearly",
            )
        ),
    )
    retain_seasons: int = Field(
        default=10, ge=0, le=10000, description="How many ended seasons can still be read; older ones are deleted."
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
        json_schema_extra=rules(
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
        description="Points of the action. The server decides them, never the client. Negative ones take points away.",
    )
    points_from: PointsFrom | None = Field(default=None, description="Where the value comes from, instead of points.")
    boards: list[Annotated[str, Field(max_length=63)]] = Field(
        default_factory=list,
        max_length=32,
        description="Boards the action counts for; all of them if empty.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
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
        json_schema_extra=rules(
            (
                f"!self.accessTokenTTL.matches('{DURATION_PATTERN}') || "
                "(self.accessTokenTTL.matches('^[0-9]{1,5}[smh]$') && "
                "duration(self.accessTokenTTL) <= duration('24h'))",
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
        default_factory=list, max_length=64, description="OAuth clients.", json_schema_extra=key("name")
    )


_SCALING_RULE = (
    "self.minReplicas <= self.maxReplicas",
    "minReplicas must not be above maxReplicas; raise maxReplicas or lower minReplicas",
)


class Service(Model):
    """Scaling and size of one service."""

    model_config = ConfigDict(json_schema_extra=rules(_SCALING_RULE))
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
        default_factory=default_resources("100m", "128Mi", "512Mi"), description="Compute resources of each pod."
    )


class ScoreboardService(Service):
    """Scaling and size of the service that holds the watchers' connections."""

    target_connections_per_pod: int = Field(
        default=5000,
        ge=1,
        le=20000,
        description="Average number of open connections of a pod the autoscaler aims for, besides its CPU use. At the "
        "default a pod's snapshots reach its last watcher well within 100 ms, and there is room for what a lost pod "
        "leaves to the others. Needs a cluster that serves the metric podium_scoreboard_connections, as the chart's "
        "connection-metrics does.",
    )


class Services(Model):
    """The application's services."""

    scores: Service = Field(default_factory=Service, description="Takes score updates.")
    scoreboard: ScoreboardService = Field(
        default_factory=ScoreboardService, description="Serves rankings and holds WebSockets."
    )
    projector: Service = Field(default_factory=Service, description="Applies score events to Redis.")
    auth: Service = Field(default_factory=Service, description="Issues tokens.")
    analytics: Service = Field(default_factory=Service, description="Keeps metrics and serves reports.")


class Gateway(Model):
    """The entrance (Envoy)."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.exposure == 'None' || has(self.host)",
                "exposure Ingress or HTTPRoute needs gateway.host, or set exposure to None",
            ),
            (
                "self.exposure != 'HTTPRoute' || has(self.className)",
                "exposure HTTPRoute needs gateway.className: the name of the Gateway, or namespace/name",
            ),
            (
                "self.exposure == 'HTTPRoute' || !has(self.className) || !self.className.contains('/')",
                "className with a namespace is for exposure HTTPRoute; write the name of an Ingress class only",
            ),
            (
                "!has(self.tlsSecretName) || self.exposure == 'Ingress'",
                "tlsSecretName is used by exposure Ingress only; set exposure to Ingress or remove it "
                "(with HTTPRoute the listener of the Gateway has the certificate)",
            ),
        )
    )
    replicas: int = Field(default=2, ge=1, le=100, description="Number of Envoy pods.")
    exposure: Literal["Ingress", "HTTPRoute", "None"] = Field(
        default="None",
        description="How the gateway is reached from outside: an Ingress, an HTTPRoute of the Gateway API, or only by "
        "its Service.",
    )
    class_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$",
        description="Class of the Ingress, the cluster's default if absent. For HTTPRoute, the Gateway that the route "
        "is attached to: its name, or namespace/name where it is in another namespace.",
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
            **rules(("self.all(n, isCIDR(n))", "write networks as CIDR, for example 10.0.0.0/8")),
        },
    )
    resources: Resources = Field(
        default_factory=default_resources("50m", "96Mi", "1Gi"), description="Compute resources of each Envoy pod."
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
    prometheus_rules: bool = Field(
        default=False,
        description="Makes alerting rules (PrometheusRule) and what reads the metrics they need (PodMonitor), and lets "
        "pods with the label app.kubernetes.io/name=prometheus read them. Needs the Prometheus Operator's kinds.",
    )


def _default_boards() -> list[Board]:
    return [Board(name="default")]


class ScoreboardSpec(Model):
    """What the Scoreboard should be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
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
        json_schema_extra=key("name"),
    )
    actions: list[Action] = Field(
        default_factory=list,
        max_length=100,
        description="What users can do. An unknown type is refused.",
        json_schema_extra=key("type"),
    )
    tiers: list[Tier] = Field(
        default_factory=list,
        max_length=64,
        description="Names for ranges of scores.",
        json_schema_extra={
            **key("name"),
            **rules(
                (
                    "self.all(t, self.exists_one(u, u.minScore == t.minScore))",
                    "two tiers have the same minScore; give each tier a minScore of its own",
                )
            ),
        },
    )
    security: Security = Field(default_factory=Security, description="Tokens, signatures and limits.")
    services: Services = Field(default_factory=Services, description="Scaling and size of the services.")
    gateway: Gateway = Field(default_factory=Gateway, description="The entrance.")
    redis: Redis = Field(default_factory=Redis, description="The Redis Cluster.")
    nats: Nats = Field(default_factory=Nats, description="NATS with JetStream.")
    postgres: Postgres = Field(default_factory=Postgres, description="PostgreSQL under Patroni.")
    cdn: Cdn = Field(default_factory=Cdn, description="Caching by a CDN.")
    observability: Observability = Field(default_factory=Observability, description="Telemetry.")
