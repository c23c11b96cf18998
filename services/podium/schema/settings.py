"""Settings of the database's maintenance."""

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from podium.common.settings import SettingsGroup


class MaintenanceSettings(SettingsGroup):
    """``PODIUM_AUDIT_RETENTION``: seconds that the log of actions is kept, at least a day."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_")

    audit_retention: int = Field(default=90 * 86400, ge=86400)

    @property
    def retention(self) -> timedelta:
        """How long the log of actions is kept."""
        return timedelta(seconds=self.audit_retention)
