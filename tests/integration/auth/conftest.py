"""Auth services on real stores: keys made for the test, and apps that run inside it."""

import base64
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from jwt.algorithms import OKPAlgorithm
from pydantic import SecretStr

from podium.auth.app import create_app
from podium.auth.clients import hash_secret
from podium.auth.settings import AuthSettings
from podium.common.settings import (
    DatabaseSettings,
    JwtSettings,
    NatsSettings,
    ProcessSettings,
    RedisSettings,
    SigningSettings,
)
from tests.support.apps import RunningApp, run_app

CLIENT = ("game", "s3cret~one")
"""A client with all scopes."""

NARROW = ("reader", "s3cret~two")
"""A client that may only read."""

HASHES = {name: hash_secret(secret, n=1024) for name, secret in (CLIENT, NARROW)}


class Auth:
    """One running auth service and a client of it."""

    def __init__(self, app: FastAPI, running: RunningApp, http: httpx.AsyncClient) -> None:
        self.app = app
        self.url = running.url
        self.http = http

    async def token(self, auth: tuple[str, str] | None = CLIENT, /, **form: str) -> httpx.Response:
        """Post a form to the token endpoint."""
        return await self.http.post("/api/v1/auth/token", data=form, auth=auth or httpx.USE_CLIENT_DEFAULT)

    async def session(self, **form: str) -> dict[str, Any]:
        """A session; of the user ``u1`` unless told otherwise."""
        answer = await self.token(grant_type="client_credentials", **{"subject": "u1", **form})
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def refresh(self, token: str, **form: str) -> httpx.Response:
        """Refresh by possession."""
        return await self.token(None, grant_type="refresh_token", refresh_token=token, **form)

    async def admin(self) -> dict[str, str]:
        """The header of an administrator."""
        answer = await self.token(grant_type="client_credentials", scope="admin")
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def claims(self, token: str) -> dict[str, Any]:
        """What a token says, unverified."""
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        return claims


StartAuth = Callable[..., Awaitable[Auth]]


@pytest.fixture(scope="session")
def private_key() -> dict[str, Any]:
    """A signing key as a private JWK."""
    jwk: dict[str, Any] = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
    return {**jwk, "kid": "k1", "alg": "EdDSA", "use": "sig"}


@pytest.fixture
async def start_auth(
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
    private_key: dict[str, Any],
) -> AsyncIterator[StartAuth]:
    """Start auth services that share the stores; settings of ``AuthSettings`` may be given."""
    public = {name: value for name, value in private_key.items() if name != "d"}
    master = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    scopes = {CLIENT[0]: ["scores:write", "scoreboard:read", "analytics:read", "admin"], NARROW[0]: ["scoreboard:read"]}
    clients = {name: {"hash": HASHES[name], "scopes": allowed} for name, allowed in scopes.items()}
    async with AsyncExitStack() as stack:

        async def start(*, wait: bool = True, **settings: Any) -> Auth:
            app = create_app(
                process=ProcessSettings(pod="test"),
                database=database_settings,
                redis=redis_settings,
                nats=nats_settings,
                jwt=JwtSettings(jwks=json.dumps({"keys": [public]})),
                signing=SigningSettings(master=SecretStr(json.dumps({"current": "1", "keys": {"1": master}}))),
                auth=AuthSettings(
                    jwt_keys=SecretStr(json.dumps({"keys": [private_key]})),
                    clients=SecretStr(json.dumps(clients)),
                    **settings,
                ),
            )
            running = await stack.enter_async_context(run_app(app))
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=running.url, timeout=10))
            auth = Auth(app, running, http)
            while wait and (await http.get("/healthz/ready")).status_code != 200:
                pass
            return auth

        yield start


@pytest.fixture
async def auth(start_auth: StartAuth) -> Auth:
    """One auth service."""
    return await start_auth()
