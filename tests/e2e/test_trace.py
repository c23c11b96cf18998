"""One trace leads from the gateway through scores, the message, the projector and Redis to the push."""

import asyncio
import secrets
from typing import Any

import httpx

from tests.support.client import Client, Session, Update
from tests.support.instance import Instance

EXPECTED = {
    "podium-gateway": {"gateway /api/v1/scores/update"},
    "podium-scores": {"POST /api/v1/scores/update", "commit score", "publish score.updated"},
    "podium-projector": {"project score"},
    "podium-scoreboard": {"push top"},
}
"""Span names by service in the trace of an update that changes the top; each service exports at its own time."""

SCOREBOARD_PODS = 2
"""Every one of them pushes."""


async def test_one_trace_tells_the_way_of_one_score(client: Client, instance: Instance) -> None:
    """The trace store has the spans of every step, in one trace, each with a parent inside it."""
    trace_id = secrets.token_hex(16)
    traceparent = f"00-{trace_id}-{secrets.token_hex(8)}-01"
    answer = await client.send(await _player_in_the_top(client), Update.of(), headers={"traceparent": traceparent})
    assert answer.status_code == 200, answer.text
    spans = await _spans(instance.pages["traces"], trace_id)
    ids = {span["id"] for span in spans}
    roots = [span for span in spans if span.get("parentId") not in ids]
    assert len(roots) == 1, [span["name"] for span in roots]
    assert "gateway" in roots[0]["localEndpoint"]["serviceName"]


async def _player_in_the_top(client: Client) -> Session:
    """Someone whose next point changes the top: its first player, if he has quota left, or a later one."""
    rankings = (await client.top())["rankings"]
    if len(rankings) < 10:
        return await client.open_session()
    for row in rankings:
        session = await client.open_session(row["userId"])
        if (await client.update(session)).status_code == httpx.codes.OK:
            return session
    raise AssertionError("everyone in the top has spent the minute's quota")


async def _spans(page: str, trace_id: str) -> list[dict[str, Any]]:
    """Wait until the store (Zipkin's API) has all expected spans of a trace, a push of each pod, and return them."""
    missing: set[tuple[str, str]] = set()
    spans: list[dict[str, Any]] = []
    pushes = 0
    url = str(httpx.URL(page).copy_with(path=f"/api/v2/trace/{trace_id}", query=None, fragment=None))
    async with httpx.AsyncClient() as http:
        try:
            async with asyncio.timeout(60):
                while True:
                    answer = await http.get(url)
                    spans = answer.json() if answer.status_code == httpx.codes.OK else []
                    seen = {(span["localEndpoint"]["serviceName"], span["name"].lower()) for span in spans}
                    wanted = {(service, name.lower()) for service, names in EXPECTED.items() for name in names}
                    missing = wanted - seen
                    pushes = sum(span["name"] == "push top" for span in spans)
                    if not missing and pushes >= SCOREBOARD_PODS:
                        return spans
                    await asyncio.sleep(1)
        except TimeoutError:
            found = sorted({(span["localEndpoint"]["serviceName"], span["name"]) for span in spans})
            raise AssertionError(f"missing {sorted(missing)}, {pushes} pushes; found {found}") from None
