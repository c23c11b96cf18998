"""What the token endpoint does: authenticate clients, open, refresh and end sessions."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from podium.auth import domain
from podium.auth.clients import Client, Clients, SecretChecker, parse_basic
from podium.auth.delivery import Deliveries
from podium.auth.domain import OAuthError, Refresh, Session
from podium.auth.keys import SigningSet, make_access_token
from podium.auth.metrics import REVOCATIONS, TOKENS_ISSUED
from podium.auth.store import SessionStore
from podium.auth.throttle import WINDOW_SECONDS, FailureThrottle
from podium.common.security_events import SecurityEvents
from podium.common.signing import SigningKeys
from podium.common.tokens import TokenError, TokenVerifier

SLOW_CHECKS: Final = 2
"""Secrets checked at once by one process; each takes 16 MiB and some 50 ms of CPU."""

_log = structlog.get_logger("podium.auth")


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """Issuer, audience and lifetimes (seconds) of tokens."""

    issuer: str
    audience: str
    access_ttl: int
    refresh_ttl: int


class ClientAuthenticator:
    """Authenticates clients by HTTP Basic, with a bound on failures."""

    def __init__(self, clients: Callable[[], Clients], throttle: FailureThrottle, events: SecurityEvents) -> None:
        self.clients = clients
        self._throttle = throttle
        self._events = events
        self._checker = SecretChecker()
        self._slots = asyncio.Semaphore(SLOW_CHECKS)

    async def authenticate(self, authorization: str | None, ip: str) -> Client:
        """The client of a Basic value. Raises OAuthError(invalid_client), 401, or 429 after too many failures."""
        client_id, secret = parse_basic(authorization)
        client = self.clients().get(client_id)
        # A secret known to be right is not held back by others' failures from the same address.
        if client is not None and self._checker.known(client, secret):
            return client
        async with self._slots:
            if await self._throttle.is_blocked(client_id, ip):
                raise OAuthError(
                    "invalid_client", "too many failed attempts; try later", status=429, retry_after=WINDOW_SECONDS
                )
            right = await asyncio.to_thread(self._checker.check, client, secret)
        if client is None or not right:
            await self._throttle.failed(client_id, ip)
            self._events.report("failed-login", client_id=client_id, ip_address=ip)
            raise OAuthError("invalid_client", "the client's credentials are wrong", status=401)
        return client


class SessionService:
    """Sessions and their tokens. Raises OAuthError, and StoreUnavailable while PostgreSQL is away."""

    def __init__(
        self,
        store: SessionStore,
        deliveries: Deliveries,
        events: SecurityEvents,
        signing_set: Callable[[], SigningSet],
        signing_keys: SigningKeys,
        policy: TokenPolicy,
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._events = events
        self._signing_set = signing_set
        self._signing_keys = signing_keys
        self._policy = policy

    async def open(self, client: Client, form: Mapping[str, str], client_ids: Clients) -> dict[str, Any]:
        """``grant_type=client_credentials``: a session of a user, or of the client itself where no user is named."""
        subject = form.get("subject")
        if subject is None:
            user_id, username, default = client.client_id, form.get("username", client.client_id), client.scopes
        else:
            user_id = domain.check_subject(subject, client_ids)
            username, default = form.get("username", user_id[: domain.MAX_USERNAME_CHARS].strip()), domain.USER_SCOPES
        domain.check_username(username)
        scope = domain.grant_scope(form.get("scope"), client.scopes, default)
        refresh = domain.new_refresh_token()
        session, now = await self._store.open(
            sid=domain.new_sid(),
            client_id=client.client_id,
            user_id=user_id,
            username=username,
            scope=scope,
            ttl=self._policy.refresh_ttl,
            token=domain.token_hash(refresh),
        )
        TOKENS_ISSUED.labels("client_credentials").inc()
        return self._answer(session, scope, refresh, now)

    async def refresh(self, form: Mapping[str, str], ip: str) -> dict[str, Any]:
        """``grant_type=refresh_token``: rotate, or end the session of a token that was used before."""
        presented = form.get("refresh_token")
        if presented is None:
            raise OAuthError("invalid_request", "refresh_token is missing")
        new = domain.new_refresh_token()
        async with self._store.family(domain.token_hash(presented)) as family:
            if family is None:
                raise OAuthError("invalid_grant", "the refresh token is not known")
            session = family.session
            decision = domain.decide_refresh(session, family.token, family.successor, family.now)
            if decision is Refresh.DEAD:
                raise OAuthError("invalid_grant", "the session is over")
            granted = domain.scopes_of(session.scope)
            scope = domain.grant_scope(form.get("scope"), granted, granted)
            if decision is Refresh.ROTATE:
                await family.rotate(domain.token_hash(new))
            elif decision is Refresh.GRACE:
                await family.replace_successor(domain.token_hash(new))
            else:
                await family.revoke()
        if decision is Refresh.REUSE:
            REVOCATIONS.labels("reuse").inc()
            self._events.report(
                "token-reuse", user_id=session.user_id, client_id=session.client_id, ip_address=ip,
                detail="a refresh token was used again; its session is revoked",
            )  # fmt: skip
            _log.warning("refresh token used again, session revoked", user=session.user_id, client=session.client_id)
            await self._deliveries.revoked([session.sid])
            raise OAuthError("invalid_grant", "the refresh token was used before; the session is revoked")
        TOKENS_ISSUED.labels("refresh_token").inc()
        return self._answer(session, scope, new, family.now)

    async def revoke(self, token: str, verifier: TokenVerifier, ip: str) -> None:
        """RFC 7009, by possession: end the session of a refresh or access token; anything else is no error."""
        sid = await self._store.sid_of(domain.token_hash(token))
        if sid is None:
            try:
                sid = verifier.verify(token).sid
            except TokenError:
                return
        if await self._store.revoke(sid):
            REVOCATIONS.labels("request").inc()
            self._events.report("session-revoked", ip_address=ip, detail="revoked by its holder")
            await self._deliveries.revoked([sid])

    def _answer(self, session: Session, scope: str, refresh: str, now: datetime) -> dict[str, Any]:
        policy = self._policy
        lifetime = domain.access_lifetime(session, policy.access_ttl, now)
        access = make_access_token(
            self._signing_set(),
            session,
            scope=scope,
            issuer=policy.issuer,
            audience=policy.audience,
            now=int(now.timestamp()),
            lifetime=lifetime,
        )
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "refresh_token": refresh,
            "scope": scope,
            "signing_key": self._signing_keys.issue(session.sid).as_json(),
        }
