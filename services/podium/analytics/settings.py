"""Settings of the analytics service."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from podium.common.settings import SettingsGroup


class AnalyticsSettings(SettingsGroup):
    """How often a ScoreboardAnalytics row is made."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_ANALYTICS_")

    interval_seconds: int = Field(default=60, ge=1, le=3600)
    """Seconds of one row."""
