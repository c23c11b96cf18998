"""Settings of the operator, from environment variables `PODIUM_OPERATOR_…` (the chart sets them)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from podium_operator.builders.base import Images


class OperatorSettings(BaseSettings):
    """What the operator is told at its start."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_OPERATOR_", frozen=True)

    namespace: str = Field(default="podium-system", description="Namespace the operator runs in.")
    watch_namespaces: str = Field(default="", description="Comma-separated namespaces to serve; all of them if empty.")
    version: str = Field(description="Application version for a Scoreboard that names none: a tag of the podium image.")
    image_podium: str = Field(description="Repository of the podium image, without a tag; spec.version is its tag.")
    image_redis: str = Field(description="Image of Redis, with its tag.")
    image_nats: str = Field(description="Image of NATS, with its tag.")
    image_postgres: str = Field(description="Image of PostgreSQL with Patroni, with its tag.")
    image_envoy: str = Field(description="Image of Envoy, with its tag.")
    image_ratelimit: str = Field(description="Image of the rate-limit service, with its tag.")
    image_pull_policy: str = Field(default="IfNotPresent", description="Pull policy of all images.")
    health_port: int = Field(default=8080, description="TCP port of /healthz and /metrics.")
    log_level: str = Field(default="info", description="debug, info, warning or error.")
    resync_seconds: float = Field(default=30.0, description="Every Scoreboard is reconciled at least this often.")

    def namespaces(self) -> list[str]:
        """The namespaces to serve; an empty list means all."""
        return [name.strip() for name in self.watch_namespaces.split(",") if name.strip()]

    def images(self, version: str) -> Images:
        """Image references for an application version."""
        return Images(
            podium=f"{self.image_podium}:{version}",
            redis=self.image_redis,
            nats=self.image_nats,
            postgres=self.image_postgres,
            envoy=self.image_envoy,
            ratelimit=self.image_ratelimit,
            pull_policy=self.image_pull_policy,
        )
