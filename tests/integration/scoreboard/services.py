"""Scoreboard services in this process, with tokens to watch by."""

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from podium.common.health import Health
from podium.common.settings import JwtSettings, NatsSettings, ProcessSettings, RedisSettings, RulesSettings
from podium.scoreboard.app import Settings, create_app
from podium.scoreboard.settings import CacheSettings, WatchSettings
from podium.scoreboard.watch_protocol import WatchProtocol
from podium.scoreboard.websocket_protocol import UVICORN_OPTIONS, HandshakeProtocol
from tests.integration.scoreboard.support import until
from tests.support.apps import RunningApp, run_app

BOARDS = '[{"name":"default"},{"name":"weekly","top":3}]'
TIERS = '[{"name":"bronze","minScore":0},{"name":"silver","minScore":100}]'

Start = Callable[..., Awaitable[tuple[RunningApp, FastAPI]]]
"""Starts a pod; its watch settings are the arguments."""


class Issuer:
    """Signs access tokens as the auth service does."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key()))
        self.jwks = json.dumps({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "EdDSA"}]})

    def token(self, user: str, *, seconds: float = 300, sid: str | None = None) -> str:
        """An access token of a session of ``user``."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": "podium",
            "aud": "podium",
            "sub": user,
            "client_id": "game",
            "exp": int(time.time() + seconds),
            "nbf": now - 1,
            "iat": now - 1,
            "jti": secrets.token_hex(8),
            "sid": sid or secrets.token_hex(16),
            "scope": "scoreboard:read",
            "username": user,
        }
        return jwt.encode(claims, self._key, "EdDSA", headers={"kid": "k1", "typ": "at+jwt"})


@contextlib.asynccontextmanager
async def running_scoreboard(
    redis: RedisSettings,
    nats: NatsSettings,
    issuer: Issuer,
    *,
    health: Health | None = None,
    cache: CacheSettings | None = None,
    **watch: Any,
) -> AsyncIterator[tuple[RunningApp, FastAPI]]:
    """A scoreboard service with its own port, ready inside the block."""
    health = health or Health()
    settings = Settings(
        process=ProcessSettings(pod="test"),
        redis=redis,
        nats=nats,
        jwt=JwtSettings(jwks=issuer.jwks),
        rules=RulesSettings(boards=BOARDS, tiers=TIERS),
        watch=WatchSettings(**watch),
        cache=cache or CacheSettings(),
    )
    app = create_app(settings, health)

    async def ready() -> bool:
        return not health.missing()

    async with run_app(app, http=WatchProtocol, ws=HandshakeProtocol, **UVICORN_OPTIONS) as running:
        await until(ready, "the scoreboard is ready")
        yield running, app
