"""Settings of the metrics server, from environment variables `PODIUM_CONNECTION_METRICS_…` (the chart sets them)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from podium_operator.builders.base import SERVICE_PORT


class MetricsSettings(BaseSettings):
    """What the metrics server is told at its start."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_CONNECTION_METRICS_", frozen=True)

    namespace: str = Field(description="Namespace of the Service in front of this process.")
    service: str = Field(description="Name of that Service.")
    service_port: int = Field(default=443, description="TCP port of that Service.")
    owner: str = Field(description="ClusterRole that owns the registration: with it, it is removed.")
    host: str = Field(default="0.0.0.0", description="Address to listen at.")
    port: int = Field(default=8443, description="TCP port to listen at, with TLS.")
    pod_port: int = Field(default=SERVICE_PORT, description="TCP port of /metrics of the pods that are asked.")
    log_level: str = Field(default="info", description="debug, info, warning or error.")

    @property
    def server_name(self) -> str:
        """The name by which the API server calls, and which the certificate is for."""
        return f"{self.service}.{self.namespace}.svc"
