"""Composition of the auth service."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from podium.auth import routes, routes_users
from podium.auth.clients import parse_clients
from podium.auth.context import AuthContext
from podium.auth.delivery import Deliveries
from podium.auth.keys import parse_private_keys
from podium.auth.restrictions import RestrictionStore
from podium.auth.service import ClientAuthenticator, SessionService, TokenPolicy
from podium.auth.settings import AuthSettings
from podium.auth.store import SessionStore
from podium.auth.throttle import FailureThrottle
from podium.common.application import make_app
from podium.common.bus import Bus, connect
from podium.common.database import make_engine
from podium.common.health import Health
from podium.common.problems import StoreUnavailable
from podium.common.redis import make_redis
from podium.common.security_events import SecurityEvents
from podium.common.security_state import SecurityState
from podium.common.settings import (
    DatabaseSettings,
    JwtSettings,
    NatsSettings,
    ProcessSettings,
    RedisSettings,
    SigningSettings,
)
from podium.common.signing import SigningKeys
from podium.common.tokens import ReloadingFile, make_verifier

PROBE_SECONDS: Final = 2.0
"""How often PostgreSQL is reached for the readiness check."""

POOL_SIZE: Final = 10
"""Connections to the primary."""

T = TypeVar("T")

_log = structlog.get_logger("podium.auth")


def create_app(
    *,
    process: ProcessSettings | None = None,
    database: DatabaseSettings | None = None,
    redis: RedisSettings | None = None,
    nats: NatsSettings | None = None,
    jwt: JwtSettings | None = None,
    signing: SigningSettings | None = None,
    auth: AuthSettings | None = None,
    health: Health | None = None,
) -> FastAPI:
    """The app; settings left out come from the environment. Raises ValueError or OSError for keys that cannot work."""
    process, nats, jwt = process or ProcessSettings(), nats or NatsSettings(), jwt or JwtSettings()
    auth, health = auth or AuthSettings(), health or Health()
    engine = make_engine(database or DatabaseSettings(), pool_size=POOL_SIZE)
    client = make_redis(redis or RedisSettings())
    connection: list[Bus] = []

    def bus() -> Bus | None:
        return connection[0] if connection else None

    state = SecurityState()
    store, restrictions, events = SessionStore(engine), RestrictionStore(engine), SecurityEvents(bus)
    algorithm = jwt.algorithm
    signing_set = _reloading(auth.jwt_keys_file, auth.jwt_keys, lambda text: parse_private_keys(text, algorithm))
    clients = _reloading(auth.clients_file, auth.clients, parse_clients)
    published = _reloading(jwt.jwks_file, SecretStr(jwt.jwks), _parse_object)
    policy = TokenPolicy(jwt.issuer, jwt.audience, auth.access_token_ttl, auth.refresh_token_ttl)
    master = (signing or SigningSettings()).master.get_secret_value()
    deliveries = Deliveries(store, restrictions, bus, auth.access_token_ttl)
    verifier = make_verifier(jwt, state.is_revoked)
    context = AuthContext(
        policy=policy,
        authenticator=ClientAuthenticator(clients, FailureThrottle(client), events),
        sessions=SessionService(store, deliveries, events, signing_set, SigningKeys.parse(master, jwt.issuer), policy),
        restrictions=restrictions,
        deliveries=deliveries,
        events=events,
        verifier=verifier,
        signing_set=signing_set,
        published_jwks=published,
        bus=bus,
    )
    reached = _Reached()
    loops: list[asyncio.Task[None]] = []

    async def with_nats() -> None:
        connection.append(await connect(nats, f"auth-{process.pod}", on_reconnect=deliveries.tell_everything))
        await state.run(connection[0])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        work: list[Coroutine[Any, Any, None]] = [
            with_nats(),
            events.run(),
            deliveries.run(),
            deliveries.expire(lambda user: events.report("unban", user_id=user, detail="its time is over")),
            deliveries.housekeep(),
            reached.probe(store),
        ]
        for one in work:
            loops.append(asyncio.create_task(one))
            loops[-1].add_done_callback(_report_death)
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            if connection:
                await connection[0].close()
            await client.aclose()
            await engine.dispose()

    health.require("postgres", lambda: reached.postgres)
    health.require("nats", state.loaded.is_set)
    health.require_alive("background work", lambda: not any(loop.done() for loop in loops))

    app = make_app("auth", "Sessions, keys and restrictions of users.", health, lifespan)
    app.state.context = context
    app.state.verifier = verifier
    app.include_router(routes.router)
    app.include_router(routes_users.router)
    _describe(app)
    return app


class _Reached:
    """Whether PostgreSQL answered when it was last asked."""

    def __init__(self) -> None:
        self.postgres = False

    async def probe(self, store: SessionStore) -> None:
        while True:
            try:
                await store.ping()
            except StoreUnavailable:
                if self.postgres:
                    _log.warning("database is away")
                self.postgres = False
            else:
                self.postgres = True
            await asyncio.sleep(PROBE_SECONDS)


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("background work died, the pod will be restarted", exc_info=task.exception())


def _reloading(path: Path | None, text: SecretStr, parse: Callable[[str], T]) -> Callable[[], T]:
    """A value from a file that may change, or else from the environment."""
    if path is not None:
        return ReloadingFile(path, parse).value
    value = parse(text.get_secret_value())
    return lambda: value


def _parse_object(text: str) -> Mapping[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("a JWK Set must be an object")
    return document


def _describe(app: FastAPI) -> None:
    """Add to the OpenAPI description what FastAPI cannot know: the client's credentials and OAuth's error form."""
    inner = app.openapi

    def openapi() -> dict[str, Any]:
        document = inner()
        components = document["components"]
        components.setdefault("securitySchemes", {})["clientSecret"] = {
            "type": "http",
            "scheme": "basic",
            "description": "Client id and client secret",
        }
        components["schemas"].setdefault("OAuthErrorDocument", routes.OAuthErrorDocument.model_json_schema())
        return document

    app.openapi = openapi  # type: ignore[method-assign]
