"""Reading the scoreboard: order, caching, a user's own rank, Server-Sent Events, the published documents."""

import asyncio
import json
from datetime import datetime
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from tests.e2e.play import raise_someone_in_the_top, rank_of
from tests.e2e.problem import check_problem
from tests.support.client import Client, Session


async def test_the_top_has_the_fields_of_the_contract(client: Client) -> None:
    """Rankings with userId, username, score and rank, and what identifies the snapshot."""
    await raise_someone_in_the_top(client)
    top = await client.top(board="default", limit=10)
    assert set(top) == {"rankings", "lastUpdated", "board", "epoch", "version"}
    assert top["board"] == "default"
    assert isinstance(top["epoch"], int)
    assert isinstance(top["version"], int)
    assert datetime.fromisoformat(top["lastUpdated"]).tzinfo is not None
    assert all(set(row) == {"userId", "username", "score", "rank"} for row in top["rankings"])


async def test_ranks_and_scores_are_in_order(client: Client) -> None:
    """Ranks are 1, 2, 3… and scores never rise."""
    rankings = (await client.top(limit=1000))["rankings"]
    assert [row["rank"] for row in rankings] == list(range(1, len(rankings) + 1))
    scores = [row["score"] for row in rankings]
    assert scores == sorted(scores, reverse=True)


async def test_who_reached_a_score_first_is_ahead(client: Client) -> None:
    """Among equal scores the earlier one ranks higher."""
    early, late = await client.open_session("zz-early"), await client.open_session("aa-late")
    for session in (early, late):
        first = await client.update(session)
        assert first.status_code == 200
    scores = {row["userId"]: row["score"] for row in (await client.top(limit=1000))["rankings"]}
    if scores.get("zz-early") == scores.get("aa-late") == 10:
        await rank_of(client, "aa-late", 10)
        ranks = {row["userId"]: row["rank"] for row in (await client.top(limit=1000))["rankings"]}
        assert ranks["zz-early"] < ranks["aa-late"]


async def test_limit_cuts_the_list(client: Client) -> None:
    """``limit`` is the number of rows."""
    assert len((await client.top(limit=1))["rankings"]) == 1


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=ten", "limit=-1", "limit=1.5"])
async def test_bad_query_values_are_refused(client: Client, query: str) -> None:
    """Nothing is guessed from a bad query."""
    check_problem(await client.http.get(f"/api/v1/scoreboard?{query}"), 400, "malformed-request")


async def test_an_unchanged_top_is_not_sent_again(client: Client) -> None:
    """A strong ETag of the exact representation gives 304."""
    async with asyncio.timeout(30):
        while True:  # until no update came in between
            answer = await client.http.get("/api/v1/scoreboard")
            etag = answer.headers["etag"]
            assert etag.startswith('"')
            again = await client.http.get("/api/v1/scoreboard", headers={"if-none-match": etag})
            if again.status_code == httpx.codes.NOT_MODIFIED:
                break
    assert again.headers["etag"] == etag
    assert again.content == b""
    other = await client.http.get("/api/v1/scoreboard?limit=1", headers={"if-none-match": etag})
    assert other.status_code == 200, "another representation has another ETag"


async def test_shared_caches_know_what_to_do(client: Client) -> None:
    """Cache-Control for a CDN and the key by which it is purged."""
    headers = (await client.http.get("/api/v1/scoreboard")).headers
    assert "s-maxage=1" in headers["cache-control"]
    assert "stale-while-revalidate=5" in headers["cache-control"]
    assert "stale-if-error=60" in headers["cache-control"]
    assert headers["surrogate-key"].split() == headers["cache-tag"].split(",")
    assert "vary" not in headers, "nothing in a request changes the answer"


async def test_a_users_own_rank(client: Client, session: Session) -> None:
    """Rank, percentile, tier and neighbours of one user."""
    assert (await client.update(session, "bonus", data={"level": 1})).status_code == 200
    own = await rank_of(client, session.user_id, 25)
    assert own["rank"]
    assert 0 <= float(str(own["percentile"])) <= 100
    assert own["tier"] == "bronze"
    answer = await client.http.get(f"/api/v1/scoreboard/users/{session.user_id}?around=2")
    rows: list[dict[str, Any]] = answer.json()["neighbours"]
    assert len(rows) <= 5
    assert any(row["userId"] == session.user_id for row in rows)
    assert [row["rank"] for row in rows] == sorted(row["rank"] for row in rows)


async def test_an_unknown_user(client: Client) -> None:
    """404 with the contract's slug."""
    check_problem(await client.http.get("/api/v1/scoreboard/users/nobody-at-all"), 404, "user-unknown")


async def test_server_sent_events(client: Client) -> None:
    """The stream sends the present top at once and every change of it."""
    async with client.http.stream("GET", "/api/v1/scoreboard/stream?board=default", timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in answer.headers["cache-control"]
        events = _events(answer)
        first = await anext(events)
        assert first["event"] == "snapshot"
        assert first["id"] == f"{first['data']['epoch']}:{first['data']['version']}"
        user_id, score = await raise_someone_in_the_top(client)
        async with asyncio.timeout(20):
            async for event in events:
                if any((row["userId"], row["score"]) == (user_id, score) for row in event["data"]["rankings"]):
                    break


async def _events(answer: httpx.Response) -> Any:
    event: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if not line and event:
            yield event
            event = {}
        elif name == "data":
            event["data"] = json.loads(value)
        elif name and not line.startswith(":"):
            event[name] = value


async def test_the_interface_is_published(client: Client) -> None:
    """OpenAPI 3.1 that validates and names every path of the contract, and AsyncAPI 3."""
    openapi = (await client.http.get("/openapi.json")).json()
    assert openapi["openapi"].startswith("3.1")
    validate(openapi)
    assert {
        "/api/v1/auth/token",
        "/api/v1/auth/revoke",
        "/api/v1/scores/update",
        "/api/v1/scoreboard",
        "/api/v1/scoreboard/stream",
    } <= set(openapi["paths"])
    asyncapi = (await client.http.get("/asyncapi.json")).json()
    assert asyncapi["asyncapi"].startswith("3.")
    assert any(channel["address"] == "/ws/scoreboard" for channel in asyncapi["channels"].values())


async def test_the_page_is_served(client: Client) -> None:
    """``/`` is a page without foreign assets, under a strict policy."""
    answer = await client.http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in answer.headers["content-security-policy"]


async def test_the_summary_needs_its_scope(
    client: Client, session: Session, ops: Client, ops_headers: dict[str, str]
) -> None:
    """The summary is there for who may read it, and for no one else."""
    summary = await ops.http.get("/api/v1/analytics/summary", headers=ops_headers)
    assert summary.status_code == 200, summary.text
    own = {"authorization": f"Bearer {session.access_token}"}
    check_problem(await client.http.get("/api/v1/analytics/summary", headers=own), 403, "scope-missing")
    check_problem(await client.http.get("/api/v1/analytics/summary"), 401, "token-missing")
