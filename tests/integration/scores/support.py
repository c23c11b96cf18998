"""Running the scores service on real stores, and sessions for its clients (its own tokens: no auth service needed)."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from pydantic import SecretStr

from podium.common.health import Health
from podium.common.server import KEEP_ALIVE_SECONDS
from podium.common.settings import (
    DatabaseSettings,
    JwtSettings,
    NatsSettings,
    RedisSettings,
    RulesSettings,
    SigningSettings,
)
from podium.common.signing import SigningKeys
from podium.scores.app import Settings, create_app
from podium.scores.protocol import UpdateProtocol
from podium.scores.settings import ScoresSettings
from tests.support.apps import run_app
from tests.support.client import Session, Update, signed_headers

ISSUER = "https://podium.test"
AUDIENCE = "podium-demo/arcade"
MASTER = '{"current":"1","keys":{"1":"' + "A" * 43 + '"}}'
KEYS = SigningKeys.parse(MASTER, ISSUER)
PRIVATE_KEY = Ed25519PrivateKey.generate()

BOARDS = [{"name": "default"}, {"name": "best", "operator": "Best"}, {"name": "latest", "operator": "Latest"}]
ACTIONS: list[dict[str, Any]] = [
    {"type": "win", "points": 10, "boards": ["default"], "schema": {"type": "object"}},
    {
        "type": "bonus",
        "points": 25,
        "boards": ["default"],
        "schema": {
            "type": "object",
            "required": ["level"],
            "properties": {"level": {"type": "integer", "minimum": 1}},
        },
    },
    {"type": "combo", "points": 50, "boards": ["default"], "cooldownSeconds": 5},
    {"type": "rare", "points": 1, "boards": ["default"], "maxPerMinute": 2},
    {"type": "lap", "pointsFrom": {"field": "points", "min": 0, "max": 1000}, "boards": ["best", "latest", "default"]},
]
TIERS = [{"name": "bronze", "minScore": 0}, {"name": "silver", "minScore": 100}, {"name": "gold", "minScore": 1000}]


def jwks() -> str:
    """The public key set of the tests' tokens."""
    key = json.loads(OKPAlgorithm.to_jwk(PRIVATE_KEY.public_key()))
    return json.dumps({"keys": [{**key, "kid": "k1", "alg": "EdDSA", "use": "sig"}]})


def open_session(user_id: str | None = None, **claims: Any) -> Session:
    """A session of a user; ``claims`` replace those of its token."""
    user_id = user_id or f"user-{secrets.token_hex(4)}"
    sid = secrets.token_urlsafe(16)
    now = int(time.time())
    payload: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user_id,
        "client_id": "arcade",
        "exp": now + 300,
        "nbf": now,
        "iat": now,
        "jti": secrets.token_hex(8),
        "sid": sid,
        "scope": "scores:write scoreboard:read",
        "username": f"name of {user_id}",
    } | claims
    token = jwt.encode(payload, PRIVATE_KEY, algorithm="EdDSA", headers={"kid": "k1", "typ": "at+jwt"})
    key = KEYS.issue(payload["sid"])
    return Session(user_id, token, "", key.kid, key.k, 300, payload["scope"])


@dataclass(frozen=True)
class Scores:
    """A running scores service."""

    http: httpx.AsyncClient

    async def send(
        self, session: Session, update: Update, *, headers: Mapping[str, str | None] | None = None, query: str = ""
    ) -> httpx.Response:
        """Sign and send; ``headers`` replaces headers after signing (None removes one)."""
        final = {**signed_headers(session, update), **(headers or {})}
        return await self.http.request(
            update.method,
            update.path + query,
            content=update.body,
            headers={name: value for name, value in final.items() if value is not None},
        )

    async def update(self, session: Session, action: str = "win", **fields: Any) -> httpx.Response:
        """Send a correct update."""
        return await self.send(session, Update.of(action, **fields))


def make_settings(database: DatabaseSettings, redis: RedisSettings, nats: NatsSettings, **scores: Any) -> Settings:
    """Settings of a service on these stores; ``scores`` are its own."""
    return Settings(
        database=database,
        redis=redis,
        nats=nats,
        jwt=JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks=jwks(), jwks_file=None),
        signing=SigningSettings(master=SecretStr(MASTER)),
        rules=RulesSettings(boards=json.dumps(BOARDS), actions=json.dumps(ACTIONS), tiers=json.dumps(TIERS)),
        scores=ScoresSettings(**scores),
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Scores]:
    """The service, ready, in this process."""
    async with (
        run_app(create_app(settings, Health()), http=UpdateProtocol, timeout_keep_alive=KEEP_ALIVE_SECONDS) as app,
        httpx.AsyncClient(base_url=app.url, timeout=15, limits=httpx.Limits(max_connections=300)) as http,
    ):
        while (await http.get("/healthz/ready")).status_code != httpx.codes.OK:
            pass
        yield Scores(http)


def slug(response: httpx.Response) -> tuple[int, str]:
    """Status and slug of a problem document."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert document["status"] == response.status_code
    assert {"type", "title", "status", "detail", "traceId"} <= document.keys()
    return response.status_code, document["type"].rsplit("/", 1)[-1]


def with_limit(settings: Settings, limit: int) -> Settings:
    """The same with another limit per user and minute."""
    return replace(settings, scores=settings.scores.model_copy(update={"updates_per_user_per_minute": limit}))


async def connect_database(settings: DatabaseSettings) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection of the tests' own, to look at what was written."""
    return await asyncpg.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password.get_secret_value(),
        database=settings.name,
    )
