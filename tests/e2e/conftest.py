"""Clients of a running Podium for the end-to-end tests."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.client import Client, Session
from tests.support.conformance import Conformance
from tests.support.instance import Instance


@pytest.fixture(scope="session")
async def conformance(instance: Instance) -> Conformance:
    """The published OpenAPI document, with which every answer to the clients below is compared."""
    async with httpx.AsyncClient(base_url=instance.url) as http:
        return Conformance((await http.get("/openapi.json")).json())


@pytest.fixture(scope="session")
async def client(instance: Instance, conformance: Conformance) -> AsyncIterator[Client]:
    """The game's own backend, talking through the gateway."""
    async with Client(instance.url, instance.client_id, instance.client_secret) as game:
        game.http.event_hooks["response"].append(conformance.check)
        yield game


@pytest.fixture
async def session(client: Client) -> Session:
    """An open session of a user who never played."""
    return await client.open_session()


@pytest.fixture(scope="session")
async def ops(instance: Instance, conformance: Conformance) -> AsyncIterator[Client]:
    """The operations team's client (scopes ``admin`` and ``analytics:read``) of the sample."""
    secret = instance.get("secret", f"{instance.name}-client-ops")["data"]["clientSecret"]
    async with Client(instance.url, "ops", base64.b64decode(secret).decode()) as operations:
        operations.http.event_hooks["response"].append(conformance.check)
        yield operations


@pytest.fixture(scope="session")
async def ops_headers(ops: Client) -> dict[str, str]:
    """Authorization of the operations team."""
    return {"authorization": f"Bearer {await ops.own_token('admin analytics:read')}"}


@pytest.fixture(scope="session", autouse=True)
async def early_session(client: Client) -> Session:
    """A session opened before the other tests, so that its token is old when ``test_expiry`` runs."""
    return await client.open_session()
