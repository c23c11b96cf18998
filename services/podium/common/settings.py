"""Settings from the environment: ``PODIUM_…`` variables, each also as ``PODIUM_…_FILE`` naming a file with the value.

The file form keeps secrets out of the environment. Every group is a class of its own, so a service
lists the groups it needs and a missing value fails at start with the variable's name.
"""

import os
import socket
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class _FileSource(PydanticBaseSettingsSource):
    """Reads ``<PREFIX><FIELD>_FILE`` and takes the file's content as the value of the field."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = f"{self.config.get('env_prefix', '')}{field_name}_FILE".upper()
        path = os.environ.get(name)
        if not path:
            return None, field_name, False
        return Path(path).read_text(encoding="utf-8").strip(), field_name, self.field_is_complex(field)

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            raw, key, is_complex = self.get_field_value(field, name)
            if raw is not None:
                values[key] = self.prepare_field_value(name, field, raw, is_complex)
        return values


class SettingsGroup(BaseSettings):
    """A group of settings; arguments beat files, files beat the environment."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _FileSource(settings_cls), env_settings


class ProcessSettings(SettingsGroup):
    """Identity of this process and where it listens."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_")

    name: str = "podium"
    namespace: str = "default"
    pod: str = Field(default_factory=socket.gethostname)
    host: str = "0.0.0.0"
    port: int = 8080
    log_level: str = "info"
    drain_seconds: float = 90.0
    """Longest time that the clients are given to go when the process is to end."""


class DatabaseSettings(SettingsGroup):
    """PostgreSQL: the primary, and the read replicas where a service can do with slightly older data."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_DATABASE_")

    host: str = "127.0.0.1"
    port: int = 5432
    name: str = "podium"
    user: str = "podium"
    password: SecretStr = SecretStr("")
    read_host: str | None = None
    read_port: int | None = None


class RedisSettings(SettingsGroup):
    """Redis Cluster: some of its nodes as ``host:port,host:port``; the client finds the others."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_REDIS_")

    nodes: str = "127.0.0.1:6379"
    password: SecretStr = SecretStr("")

    def addresses(self) -> list[tuple[str, int]]:
        """The nodes as (host, port)."""
        pairs = (node.strip().rpartition(":") for node in self.nodes.split(",") if node.strip())
        return [(host, int(port)) for host, _, port in pairs]


class NatsSettings(SettingsGroup):
    """NATS: URL (or several, comma-separated), user and the number of replicas of each stream."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_NATS_")

    url: str = "nats://127.0.0.1:4222"
    user: str | None = None
    password: SecretStr = SecretStr("")
    replicas: int = 1


class JwtSettings(SettingsGroup):
    """Access tokens: what is accepted, and the public keys (``jwks_file`` is read again when it changes)."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_JWT_")

    issuer: str = "podium"
    audience: str = "podium"
    algorithm: Literal["EdDSA", "ES256"] = "EdDSA"
    jwks: str = '{"keys":[]}'
    jwks_file: Path | None = None


class RulesSettings(SettingsGroup):
    """Boards, actions and tiers as JSON text in the form of the resource's spec; parsed by ``podium.common.rules``."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_")

    boards: str = '[{"name":"default"}]'
    actions: str = "[]"
    tiers: str = "[]"


class SigningSettings(SettingsGroup):
    """Master keys from which the sessions' request-signing keys are derived (JSON, see ``podium.common.signing``)."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_SIGNING_")

    master: SecretStr = SecretStr('{"current":"","keys":{}}')


class TelemetrySettings(SettingsGroup):
    """OpenTelemetry's own variables; without an endpoint spans are made but not exported."""

    OTLP_PATH: ClassVar[str] = "/v1/traces"
    model_config = SettingsConfigDict(env_prefix="OTEL_")

    exporter_otlp_endpoint: str | None = None
    traces_sampler_arg: float = 1.0
    service_name: str | None = None

    @property
    def records_own_traces(self) -> bool:
        """Whether a request that is in no trace yet may begin one that somebody will see."""
        return self.exporter_otlp_endpoint is not None and self.traces_sampler_arg > 0
