"""The auth, scores and analytics services together, as processes: what one decides the others heed."""

import asyncio
import base64
import json
import secrets
import uuid
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from podium.common.database import make_engine
from podium.common.settings import DatabaseSettings
from podium.common.signing import sign_request
from tests.integration.auth.conftest import CLIENT, HASHES
from tests.support.apps import run_service

PATH = "/api/v1/scores/update"


async def _update(http: httpx.AsyncClient, session: dict[str, Any]) -> httpx.Response:
    """Post a signed update as the session's user."""
    body = json.dumps(
        {
            "actionId": str(uuid.uuid4()),
            "actionMetadata": {"type": "win", "timestamp": datetime.now(UTC).isoformat(), "additionalData": {}},
        }
    ).encode()
    authorization = f"Bearer {session['access_token']}"
    key = session["signing_key"]
    raw = base64.urlsafe_b64decode(key["k"] + "=")
    headers = sign_request(raw, key["kid"], method="POST", path=PATH, authorization=authorization, body=body)
    headers |= {"Authorization": authorization, "Content-Type": "application/json"}
    return await http.post(PATH, content=body, headers=headers)


async def _until(http: httpx.AsyncClient, session: dict[str, Any], status: int) -> httpx.Response:
    async with asyncio.timeout(5):
        while (answer := await _update(http, session)).status_code != status:
            await asyncio.sleep(0.02)
    return answer


async def test_sessions_bans_revocations_and_resets_reach_the_scores_service(
    service_env: dict[str, str], database_settings: DatabaseSettings, private_key: dict[str, Any], tmp_path: Path
) -> None:
    """A session signs updates; a ban, its lifting, a reset and a revocation take effect on them."""
    public = {name: value for name, value in private_key.items() if name != "d"}
    master = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    env = {
        **service_env,
        "PODIUM_JWT_JWKS": json.dumps({"keys": [public]}),
        "PODIUM_JWT_ISSUER": "https://arcade.example",
        "PODIUM_JWT_AUDIENCE": "podium-demo/arcade",
        "PODIUM_SIGNING_MASTER": json.dumps({"current": "1", "keys": {"1": master}}),
        "PODIUM_ACTIONS": json.dumps([{"type": "win", "points": 10}]),
        "PODIUM_UPDATES_PER_USER_PER_MINUTE": "1000",
        "PODIUM_JWT_KEYS": json.dumps({"keys": [private_key]}),
        "PODIUM_CLIENTS": json.dumps({CLIENT[0]: {"hash": HASHES[CLIENT[0]], "scopes": ["scores:write", "admin"]}}),
    }
    engine = make_engine(database_settings)

    async def row() -> tuple[int, bool]:
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT score, hidden FROM user_score WHERE user_id = 'u1'"))
            score, hidden = found.one()
            return score, hidden

    async with AsyncExitStack() as stack:

        async def start(module: str) -> httpx.AsyncClient:
            service = await stack.enter_async_context(run_service(module, env, tmp_path))
            return await stack.enter_async_context(httpx.AsyncClient(base_url=service.url, timeout=10))

        auth, scores, analytics = [await start(f"podium.{name}") for name in ("auth", "scores", "analytics")]

        async def token(**form: str) -> dict[str, Any]:
            form = {"grant_type": "client_credentials", **form}
            answer: dict[str, Any] = (await auth.post("/api/v1/auth/token", data=form, auth=CLIENT)).json()
            return answer

        session, admin = await token(subject="u1", username="Ann"), await token(scope="admin")
        header = {"Authorization": f"Bearer {admin['access_token']}"}
        assert (await _update(scores, session)).json()["score"] == 10

        await auth.post("/api/v1/admin/users/u1/ban", json={"reason": "r"}, headers=header)
        banned = await _until(scores, session, 403)
        assert banned.json()["type"].endswith("user-banned")
        assert await row() == (10, True)

        await auth.post("/api/v1/admin/users/u1/unban", headers=header)
        assert await row() == (10, False)
        assert (await _until(scores, session, 200)).json()["score"] == 20

        reset = await analytics.post("/api/v1/admin/boards/default/reset", headers=header)
        assert reset.json()["season"] == 2
        assert (await _update(scores, session)).json()["score"] == 10
        assert await row() == (10, False)

        renewed = (
            await auth.post(
                "/api/v1/auth/token",
                data={"grant_type": "refresh_token", "refresh_token": session["refresh_token"]},
            )
        ).json()
        assert (await _update(scores, renewed)).status_code == 200
        await auth.post("/api/v1/auth/revoke", data={"token": renewed["refresh_token"]})
        assert (await _until(scores, session, 401)).json()["type"].endswith("token-invalid")
    await engine.dispose()
