"""Settings of the scoreboard service and the projector beyond the common groups."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from podium.common.settings import SettingsGroup


class WatchSettings(SettingsGroup):
    """Watchers: WebSocket and SSE. Times in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_")

    ws_heartbeat_seconds: float = 25.0
    ws_tick_ms: float = 50.0
    """A board is broadcast once in so many milliseconds at most; changes in between are conflated."""
    ws_max_message_bytes: int = 4096
    ws_slow_seconds: float = 10.0
    """How long a connection may take no byte of what waits for it before it is dropped."""
    drain_closes_per_second: float = Field(default=150.0, gt=0)
    """How many watchers a pod that goes sends away in a second, or more if they could not all be gone in the time for
    it: in a roll-out some pods go at once, and the gateway and those that stay take them in beside their work."""
    max_connections: int = 20_000
    """Of one pod; fewer where its process may not open so many files."""
    max_connections_per_user: int = 5
    max_connections_per_ip: int = 50


class ProjectionSettings(SettingsGroup):
    """How the ranking is kept right."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_")

    drift_check_seconds: float = 300.0
    """Time between two full comparisons of a board with PostgreSQL, by whichever projector comes first."""


class CacheSettings(SettingsGroup):
    """What shared caches may do with the scoreboard, in seconds."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_CDN_")

    s_maxage: int = 1
    stale_while_revalidate: int = 5
    stale_if_error: int = 60


PurgeForm = Literal["Signed", "Bearer", "Fastly", "Cloudflare"]
"""How a purge API wants to be called; see ``podium.scoreboard.projector.purge_request``."""


class PurgeSettings(SettingsGroup):
    """The call that purges a CDN; none is made without an address."""

    model_config = SettingsConfigDict(env_prefix="PODIUM_CDN_PURGE_")

    url: str = ""
    form: PurgeForm = "Signed"
    min_interval_seconds: float = 1.0
    """Least time between two calls for one board, of all projectors together."""
    token_file: Path | None = None
    """File with the token; it is read for each call, so a new one needs no restart."""

    def token(self) -> str | None:
        """The token as it is now; None where there is none that could stand in a header."""
        try:
            text = self.token_file.read_text(encoding="ascii").strip() if self.token_file else ""
        except (OSError, UnicodeDecodeError):
            return None
        return text if text and text.isprintable() else None
