"""Settings of the scores service; see the table of the environment in the architecture page."""

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from podium.common.settings import SettingsGroup


class ScoresSettings(SettingsGroup):
    """What the scores service alone needs."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_")

    request_signing: Literal["Required", "Optional"] = "Required"
    """With ``Optional`` an unsigned update is accepted; a signature that is present is still verified."""

    updates_per_user_per_minute: int = Field(default=10, ge=1)
    """Updates accepted of one user in any 60 seconds, exactly."""
