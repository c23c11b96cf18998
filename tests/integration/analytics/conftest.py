"""Analytics services on real stores, and events as the scores service sends them."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from jwt.algorithms import OKPAlgorithm
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.analytics.app import create_app
from podium.analytics.settings import AnalyticsSettings
from podium.common.bus import SCORE_UPDATED, Bus, connect
from podium.common.database import make_engine
from podium.common.settings import DatabaseSettings, JwtSettings, NatsSettings, ProcessSettings, RulesSettings
from tests.support.apps import run_app

KEY = Ed25519PrivateKey.generate()

TIERS = [{"name": "bronze", "minScore": 0}, {"name": "silver", "minScore": 100}]


class Analytics:
    """One running analytics service and a client of it."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient) -> None:
        self.app = app
        self.http = http

    async def get(self, path: str, scope: str = "analytics:read", **params: Any) -> httpx.Response:
        """GET with a token of this scope."""
        return await self.http.get(path, params=params, headers=bearer(scope))

    async def post(self, path: str, scope: str = "admin") -> httpx.Response:
        """POST without a body, with a token of this scope."""
        return await self.http.post(path, headers=bearer(scope))


StartAnalytics = Callable[..., Awaitable[Analytics]]


def bearer(scope: str) -> dict[str, str]:
    """An ``Authorization`` header with a genuine token."""
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": "podium", "aud": "podium", "sub": "sre", "client_id": "sre", "iat": now, "nbf": now, "exp": now + 300,
        "jti": "j", "sid": "s", "scope": scope, "username": "sre",
    }  # fmt: skip
    token = jwt.encode(claims, KEY, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": "k"})
    return {"Authorization": f"Bearer {token}"}


def entry(user: str, points: int = 10, *, board: str = "default", at: datetime | None = None) -> dict[str, Any]:
    """One update in an event."""
    return {
        "board": board, "userId": user, "username": user, "score": points, "version": 1,
        "reachedAt": "2026-01-01T00:00:00.000000Z", "hidden": False, "totalActions": 1, "actionId": str(uuid.uuid4()),
        "actionType": "win", "scoreIncrease": points, "acceptedAt": (at or datetime.now(UTC)).isoformat(),
        "ipAddress": "203.0.113.9", "traceparent": None,
    }  # fmt: skip


async def publish(
    bus: Bus, *entries: dict[str, Any], event_id: str | None = None, message_id: str | None = None
) -> str:
    """Send an event; returns its id."""
    event_id = event_id or str(uuid.uuid4())
    payload = json.dumps({"eventId": event_id, "updates": list(entries)}).encode()
    await bus.publish(SCORE_UPDATED, payload, message_id=message_id or event_id)
    return event_id


@pytest.fixture
async def engine(database_settings: DatabaseSettings) -> AsyncIterator[AsyncEngine]:
    """The test's own way into the database."""
    engine = make_engine(database_settings)
    yield engine
    await engine.dispose()


@pytest.fixture
async def bus(nats_settings: NatsSettings) -> AsyncIterator[Bus]:
    """A connection of the test's own."""
    async with await connect(nats_settings, "test") as bus:
        yield bus


@pytest.fixture
async def start_analytics(
    database_settings: DatabaseSettings, nats_settings: NatsSettings
) -> AsyncIterator[StartAnalytics]:
    """Start analytics services that share the stores."""
    public = OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    async with AsyncExitStack() as stack:

        async def start(interval: int = 60) -> Analytics:
            app = create_app(
                process=ProcessSettings(pod="test"),
                database=database_settings,
                nats=nats_settings,
                jwt=JwtSettings(jwks=json.dumps({"keys": [{**public, "kid": "k", "alg": "EdDSA"}]})),
                rules=RulesSettings(boards=json.dumps([{"name": "default", "top": 2}]), tiers=json.dumps(TIERS)),
                analytics=AnalyticsSettings(interval_seconds=interval),
            )
            running = await stack.enter_async_context(run_app(app))
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=running.url, timeout=10))
            while (await http.get("/healthz/ready")).status_code != 200:
                pass
            return Analytics(app, http)

        yield start


@pytest.fixture
async def analytics(start_analytics: StartAnalytics) -> Analytics:
    """One analytics service."""
    return await start_analytics()
