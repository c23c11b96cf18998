"""What one process of the auth service holds, made once by the app's composition."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from podium.auth.delivery import Deliveries
from podium.auth.keys import SigningSet
from podium.auth.metrics import RESTRICTIONS
from podium.auth.restrictions import Kind, RestrictionStore
from podium.auth.service import ClientAuthenticator, SessionService, TokenPolicy
from podium.common.bus import Bus
from podium.common.outbox import send
from podium.common.security_events import SecurityEvents
from podium.common.tokens import TokenVerifier

_log = structlog.get_logger("podium.auth")


@dataclass(frozen=True, slots=True)
class AuthContext:
    """The parts that routes use."""

    policy: TokenPolicy
    authenticator: ClientAuthenticator
    sessions: SessionService
    restrictions: RestrictionStore
    deliveries: Deliveries
    events: SecurityEvents
    verifier: TokenVerifier
    signing_set: Callable[[], SigningSet]
    published_jwks: Callable[[], Mapping[str, Any]]
    bus: Callable[[], Bus | None]

    async def restrict(
        self, user_id: str, kind: Kind | None, *, reason: str, until: datetime | None, actor: str, ip: str
    ) -> None:
        """Restrict a user, or lift their restriction with None, and tell everybody. Raises StoreUnavailable."""
        written = await self.restrictions.restrict(user_id, kind, reason=reason, until=until, actor=actor)
        name = kind or "unban"
        RESTRICTIONS.labels(name).inc()
        self.events.report(name, user_id=user_id, client_id=actor, ip_address=ip, detail=reason)
        _log.info("restriction changed", kind=name, subject=user_id, actor=actor)
        bus = self.bus()
        if bus is not None and bus.connected:
            await send(self.restrictions.engine, bus, written)
        await self.deliveries.restricted(user_id)
