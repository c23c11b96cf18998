"""Settings of the auth service."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from podium.common.settings import SettingsGroup


class AuthSettings(SettingsGroup):
    """Private keys, clients and lifetimes. The files are read again when they change."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_")

    jwt_keys: SecretStr = SecretStr("")
    """JWK Set with private keys; the first signs."""
    jwt_keys_file: Path | None = None
    clients: SecretStr = SecretStr("{}")
    clients_file: Path | None = None
    access_token_ttl: int = Field(default=300, ge=1)
    """Seconds."""
    refresh_token_ttl: int = Field(default=86_400, ge=1)
    """Seconds, absolute from the session's start."""
