"""Restrictions of users: the ranking's rows, the events and every pod's memory agree."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.common.bus import SCORE_UPDATED, Bus, connect
from podium.common.database import make_engine
from podium.common.security_state import SecurityState
from podium.common.settings import DatabaseSettings, NatsSettings
from tests.integration.auth.conftest import Auth, StartAuth
from tests.support.stores import Stores


@pytest.fixture
async def engine(database_settings: DatabaseSettings) -> AsyncIterator[AsyncEngine]:
    """The database, with a user who has scores on two boards and one without actions on a third."""
    engine = make_engine(database_settings)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO player (user_id, username) VALUES ('u1', 'Ann'), ('u2', 'Bob')"))
        await connection.execute(
            text(
                """
                INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated,
                  total_actions, hidden)
                VALUES ('a', 'u1', 'Ann', 10, 3, now(), now(), 3, false),
                  ('b', 'u1', 'Ann', 20, 5, now(), now(), 2, false), ('c', 'u1', 'Ann', 0, 9, now(), now(), 0, true),
                  ('a', 'u2', 'Bob', 15, 1, now(), now(), 1, false)
                """
            )
        )
    yield engine
    await engine.dispose()


@pytest.fixture
async def bus(nats_settings: NatsSettings) -> AsyncIterator[Bus]:
    """A connection of the test's own."""
    async with await connect(nats_settings, "test") as bus:
        yield bus


@pytest.fixture
async def pod(bus: Bus) -> AsyncIterator[SecurityState]:
    """What another pod has in its memory."""
    state = SecurityState()
    task = asyncio.create_task(state.run(bus))
    await state.loaded.wait()
    yield state
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _scores(engine: AsyncEngine) -> dict[tuple[str, str], tuple[bool, int]]:
    """(hidden, version) by board and user."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT board, user_id, hidden, version FROM user_score"))
        return {(board, user): (hidden, version) for board, user, hidden, version in rows}


async def _kind(pod: SecurityState, user: str, kind: str | None) -> None:
    """Wait until the pod knows this kind of restriction, or none."""

    def known() -> str | None:
        found = pod.restriction(user)
        return found.kind if found else None

    async with asyncio.timeout(5):
        while known() != kind:
            await asyncio.sleep(0.01)


async def _events(bus: Bus, number: int) -> list[dict[str, Any]]:
    """The first events of the stream, as a consumer sees them."""
    subscription = await bus.pull("test", SCORE_UPDATED)
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(events) < number:
            for message in await subscription.fetch(number, timeout=10):
                events.append(json.loads(message.data))
                await message.ack()
    return events


async def test_a_ban_takes_a_user_out_and_lifting_brings_them_back_exactly(
    auth: Auth, engine: AsyncEngine, bus: Bus, pod: SecurityState
) -> None:
    """Rows, events and memories after a ban and after its lifting; scores and times are untouched."""
    admin = await auth.admin()
    banned = await auth.http.post("/api/v1/admin/users/u1/ban", json={"reason": "cheating"}, headers=admin)
    assert banned.json()["restriction"] == {"kind": "ban", "reason": "cheating", "until": None}
    assert await _scores(engine) == {
        ("a", "u1"): (True, 4), ("b", "u1"): (True, 6), ("c", "u1"): (True, 9), ("a", "u2"): (False, 1)
    }  # fmt: skip
    await _kind(pod, "u1", "ban")
    lifted = await auth.http.post("/api/v1/admin/users/u1/unban", headers=admin)
    assert lifted.json()["restriction"] is None
    assert await _scores(engine) == {
        ("a", "u1"): (False, 5), ("b", "u1"): (False, 7), ("c", "u1"): (True, 9), ("a", "u2"): (False, 1)
    }  # fmt: skip
    await _kind(pod, "u1", None)
    events = await _events(bus, 2)
    states = [
        {(one["board"], one["score"], one["version"], one["hidden"]) for one in event["updates"]} for event in events
    ]
    assert states == [{("a", 10, 4, True), ("b", 20, 6, True)}, {("a", 10, 5, False), ("b", 20, 7, False)}]
    assert {one["actionId"] for event in events for one in event["updates"]} == {None}
    history = (await auth.http.get("/api/v1/admin/users/u1", headers=admin)).json()["history"]
    assert [entry["kind"] for entry in history] == ["none", "ban"]


async def test_a_block_hides_nobody(auth: Auth, engine: AsyncEngine, pod: SecurityState) -> None:
    """A block refuses updates; the ranking stays as it is."""
    await auth.http.post("/api/v1/admin/users/u1/block", json={"reason": "odd"}, headers=await auth.admin())
    await _kind(pod, "u1", "block")
    assert (await _scores(engine))["a", "u1"] == (False, 3)


async def test_a_restriction_with_an_end_ends(auth: Auth, engine: AsyncEngine, pod: SecurityState) -> None:
    """A hiding with an end is lifted by itself: rows, memory and history."""
    admin = await auth.admin()
    until = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    body = {"reason": "pause", "until": until}
    assert (await auth.http.post("/api/v1/admin/users/u1/hide", json=body, headers=admin)).status_code == 200
    assert (await _scores(engine))["a", "u1"][0]
    async with asyncio.timeout(10):
        while (await _scores(engine))["a", "u1"][0]:
            await asyncio.sleep(0.05)
    await _kind(pod, "u1", None)
    detail = (await auth.http.get("/api/v1/admin/users/u1", headers=admin)).json()
    assert (detail["restriction"], detail["history"][0]["actor"]) == (None, "podium")


async def test_any_user_id_can_be_named(auth: Auth, pod: SecurityState) -> None:
    """A user who never scored, with slashes and spaces in the id, can be banned before the first update."""
    user = "idp:a/b c"
    path = f"/api/v1/admin/users/{quote(user, safe='')}"
    admin = await auth.admin()
    assert (await auth.http.post(f"{path}/ban", json={"reason": "r"}, headers=admin)).json()["userId"] == user
    await _kind(pod, user, "ban")
    assert (await auth.http.get(path, headers=admin)).json()["userId"] == user


async def test_the_list_is_paged(auth: Auth, engine: AsyncEngine) -> None:
    """Restricted users in the order of their ids, page by page, and by kind."""
    admin = await auth.admin()
    for user, kind in (("u1", "ban"), ("u2", "hide"), ("u3", "ban")):
        await auth.http.post(f"/api/v1/admin/users/{user}/{kind}", json={"reason": "r"}, headers=admin)
    first = (await auth.http.get("/api/v1/admin/users", params={"limit": 2}, headers=admin)).json()
    assert ([user["userId"] for user in first["users"]], first["next"]) == (["u1", "u2"], "u2")
    rest = await auth.http.get("/api/v1/admin/users", params={"limit": 2, "after": "u2"}, headers=admin)
    assert ([user["userId"] for user in rest.json()["users"]], rest.json()["next"]) == (["u3"], None)
    assert rest.headers["cache-control"] == "no-store"
    bans = await auth.http.get("/api/v1/admin/users", params={"restriction": "ban"}, headers=admin)
    assert [user["userId"] for user in bans.json()["users"]] == ["u1", "u3"]


async def test_refusals(auth: Auth) -> None:
    """No token, no scope, a bad body, an unknown user: the contract's problem documents."""
    admin, player = await auth.admin(), await auth.session()
    path = "/api/v1/admin/users/nobody/ban"
    past = {"reason": "r", "until": "2020-01-01T00:00:00Z"}
    cases = [
        (await auth.http.post(path, json={"reason": "r"}), 401, "token-missing"),
        (
            await auth.http.post(
                path, json={"reason": "r"}, headers={"Authorization": f"Bearer {player['access_token']}"}
            ),
            403,
            "scope-missing",
        ),
        (await auth.http.post(path, json={}, headers=admin), 400, "malformed-request"),
        (await auth.http.post(path, json=past, headers=admin), 400, "malformed-request"),
        (await auth.http.post("/api/v1/admin/users/nobody/unban", headers=admin), 404, "user-unknown"),
        (await auth.http.get("/api/v1/admin/users/nobody", headers=admin), 404, "user-unknown"),
    ]
    for answer, status, slug in cases:
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, slug)
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("www-authenticate" in answer.headers) == (status in {401, 403})


async def test_what_could_not_be_told_is_told_later(
    start_auth: StartAuth, stores: Stores, engine: AsyncEngine, nats_settings: NatsSettings
) -> None:
    """With NATS away a ban and a revocation are kept and told when it is back; the event stays in the outbox."""
    auth = await start_auth()
    admin = await auth.admin()
    session = await auth.session()
    stores.nats.process.kill()
    try:
        banned = await auth.http.post("/api/v1/admin/users/u1/ban", json={"reason": "r"}, headers=admin)
        assert banned.status_code == 200
        revoked = await auth.http.post("/api/v1/auth/revoke", data={"token": session["refresh_token"]})
        assert revoked.status_code == 200
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM outbox"))).scalar_one() == 1
    finally:
        stores.nats.process.restart()
    state = SecurityState()
    async with await connect(nats_settings, "test") as bus:
        task = asyncio.create_task(state.run(bus))
        await _kind(state, "u1", "ban")
        await state.loaded.wait()
        async with asyncio.timeout(10):
            while not state.is_revoked(auth.claims(session["access_token"])["sid"]):
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_with_the_database_away_nothing_is_pretended(auth: Auth, stores: Stores) -> None:
    """Sessions cannot be opened: 503 with Retry-After, readiness names postgres, key sets are still served."""
    stores.postgres.process.stop()
    try:
        answer = await auth.token(grant_type="client_credentials", subject="u1")
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (503, "database-unavailable")
        assert "retry-after" in answer.headers
        async with asyncio.timeout(10):
            while (ready := await auth.http.get("/healthz/ready")).status_code != 503:
                await asyncio.sleep(0.05)
        assert ready.json()["missing"] == ["postgres"]
        assert (await auth.http.get("/.well-known/jwks.json")).status_code == 200
    finally:
        stores.postgres.process.restart()
    async with asyncio.timeout(20):
        while (await auth.token(grant_type="client_credentials", subject="u1")).status_code != 200:
            await asyncio.sleep(0.05)
