"""The gateway as clients see it: routes, its own errors, sizes, addresses, limits."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.integration.gateway.conftest import READS_PER_MINUTE, Gateway

UPDATE = "/api/v1/scores/update"
LIMIT = 16 * 1024


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer, checked for its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"https://podium.dev/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert int(document["traceId"].replace("-", ""), 16)
    return document


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", UPDATE),
        ("POST", "/api/v1/auth/token"),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/api/v1/scoreboard?board=default&limit=10"),
        ("GET", "/api/v1/scoreboard/users/ann?around=5"),
        ("GET", "/api/v1/analytics/summary"),
        ("POST", "/api/v1/admin/users/ann/ban"),
        ("GET", "/api/v1/admin/dead-letters"),
        ("GET", "/"),
        ("GET", "/assets/app.js"),
        ("GET", "/openapi.json"),
        ("HEAD", "/api/v1/scoreboard"),
    ],
)
async def test_public_paths_reach_a_service_unchanged(
    client: httpx.AsyncClient, gateway: Gateway, method: str, path: str
) -> None:
    """Every public path is served, and arrives as it was sent."""
    answer = await client.request(method, path)
    assert answer.status_code == 200
    assert gateway.upstream.requests[-1]["path"] == path.partition("?")[0]


async def test_what_is_not_public_is_not_there(client: httpx.AsyncClient, gateway: Gateway) -> None:
    """Probes, metrics and unknown paths are 404 problem documents."""
    for path in ("/healthz/live", "/healthz/ready", "/metrics", "/docs", "/api/v1/scores", "/api/v1/scores/update/"):
        problem(await client.get(path), 404, "not-found")
    assert gateway.upstream.requests == []


async def test_a_wrong_method_is_refused_with_allow(client: httpx.AsyncClient) -> None:
    """405 names the methods that are allowed."""
    answer = await client.get(UPDATE)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    problem(await client.delete("/api/v1/scoreboard"), 405, "method-not-allowed")


async def test_paths_that_are_not_plain_are_refused(gateway: Gateway) -> None:
    """Escaped slashes and dot segments are 400, and no path is rewritten."""
    for path in ("/api%2fv1/scoreboard", "/api/v1/auth/../admin/x", "/api/v1/auth/%2e%2E/admin/x", "/assets/./x"):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 400"), path
        assert "malformed-request" in answer
    assert gateway.upstream.requests == []


@pytest.mark.parametrize("path", [UPDATE, "/api/v1/auth/token"])
async def test_bodies_up_to_the_limit(client: httpx.AsyncClient, gateway: Gateway, path: str) -> None:
    """A body of 16 KiB passes, one byte more is 413; so is a long one that does not announce its length."""
    assert (await client.post(path, content=b"x" * LIMIT)).json()["body_bytes"] == LIMIT
    problem(await client.post(path, content=b"x" * (LIMIT + 1)), 413, "body-too-large")

    async def chunks() -> Any:
        for _ in range(8):
            yield b"x" * (LIMIT // 2)

    problem(await client.post(path, content=chunks()), 413, "body-too-large")
    assert len(gateway.upstream.requests) == 1


async def test_headers_of_the_gateway_cannot_be_forged(client: httpx.AsyncClient) -> None:
    """The client's address is the peer's; X-Forwarded-For and x-podium-* of a client count for nothing."""
    forged = {
        "x-podium-client-ip": "203.0.113.1", "X-Podium-Secret": "1", "x-forwarded-for": "203.0.113.2",
        "x-envoy-retry-on": "5xx",
    }  # fmt: skip
    headers = (await client.get("/api/v1/scoreboard", headers=forged)).json()["headers"]
    assert headers["x-podium-client-ip"] == "127.0.0.1"
    assert "x-podium-secret" not in headers
    assert "x-envoy-retry-on" not in headers
    assert headers["traceparent"].startswith("00-")


@pytest.mark.parametrize("gateway", [("127.0.0.0/8", "10.0.0.0/8")], indirect=True)
async def test_a_trusted_proxy_is_believed(client: httpx.AsyncClient) -> None:
    """Behind a trusted proxy the client is the last address that is not a trusted one."""
    sent = {"x-forwarded-for": "198.51.100.9, 203.0.113.7, 10.1.2.3", "x-podium-client-ip": "1.1.1.1"}
    headers = (await client.get("/api/v1/scoreboard", headers=sent)).json()["headers"]
    assert headers["x-podium-client-ip"] == "203.0.113.7"


async def test_proxy_protocol_gives_the_address(gateway: Gateway) -> None:
    """The second port takes the address from a PROXY header, and works without one."""
    for greeting, address in ((b"PROXY TCP4 203.0.113.5 127.0.0.1 4000 80\r\n", "203.0.113.5"), (b"", "127.0.0.1")):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxied_port)
        writer.write(greeting + b"GET /api/v1/scoreboard HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        start, end = body.index(b"{"), body.rindex(b"}")
        assert json.loads(body[start : end + 1])["headers"]["x-podium-client-ip"] == address


async def test_reads_are_limited_by_address(client: httpx.AsyncClient) -> None:
    """One address gets its reads and then 429 with the headers that say when to come back."""
    answers = [await client.get("/api/v1/scoreboard") for _ in range(2 * READS_PER_MINUTE + 1)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused, "a window of a minute may begin once meanwhile, not twice"
    problem(refused[0], 429, "rate-limited")
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert refused[0].headers["ratelimit-policy"] == f'"gateway";q={READS_PER_MINUTE};w=60'
    assert refused[0].headers["ratelimit"].startswith('"gateway";r=0;t=')
    assert not any(name.startswith("x-podium") for answer in answers for name in answer.headers)
    assert (await client.get("/.well-known/jwks.json")).status_code == 200


async def test_updates_are_limited_by_verified_user(client: httpx.AsyncClient, gateway: Gateway) -> None:
    """120 updates of one user in a minute pass; another user, or a token nobody signed, is not counted with them."""
    ann = {"authorization": f"Bearer {gateway.token('ann')}"}
    statuses = [(await client.post(UPDATE, headers=ann, content=b"{}")).status_code for _ in range(241)]
    assert statuses.count(200) >= 120
    assert 429 in statuses
    bob = {"authorization": f"Bearer {gateway.token('bob')}"}
    assert (await client.post(UPDATE, headers=bob, content=b"{}")).status_code == 200
    forged = {"authorization": f"Bearer {gateway.token('ann')[:-8]}AAAAAAAA"}
    answer = await client.post(UPDATE, headers=forged, content=b"{}")
    assert answer.status_code == 200, "whether a token is good is the service's to say"
    assert answer.json()["headers"]["authorization"] == forged["authorization"]


async def test_without_the_rate_limit_service_requests_pass(client: httpx.AsyncClient, gateway: Gateway) -> None:
    """The limiter fails open, and that is counted."""
    gateway.ratelimit.kill()
    for _ in range(2 * READS_PER_MINUTE + 1):
        assert (await client.get("/api/v1/scoreboard")).status_code == 200
    counted = await gateway.statistic("envoy_cluster_ratelimit_failure_mode_allowed")
    assert counted >= 2 * READS_PER_MINUTE


async def test_websockets_pass_with_the_address(gateway: Gateway) -> None:
    """An upgrade of /ws/scoreboard reaches the service; any other path takes none."""
    async with connect(f"ws://127.0.0.1:{gateway.port}/ws/scoreboard") as socket:
        await socket.send("hello")
        assert await socket.recv() == "127.0.0.1 hello"
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        for path in ("/api/v1/scoreboard", "/ws/other", "/ws/scoreboard/", "/nothing"):
            problem(await client.get(path, headers=upgrade), 400, "malformed-request")


async def test_a_websocket_outlives_the_request_timeout(gateway: Gateway) -> None:
    """A WebSocket that has waited longer than a request may take is still there."""
    async with connect(f"ws://127.0.0.1:{gateway.port}/ws/scoreboard") as socket:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 17)
        await socket.send("still")
        assert await socket.recv() == "127.0.0.1 still"


async def test_a_slow_request_is_cut_off(gateway: Gateway) -> None:
    """Headers that never end are answered with 408 after ten seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    async with asyncio.timeout(60):
        answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 408")
    assert "request-timeout" in answer


async def test_a_trace_goes_on_and_is_exported(client: httpx.AsyncClient, gateway: Gateway) -> None:
    """A client's trace context is continued to the service, and the gateway's span reaches the collector."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    sent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    received = (await client.get("/api/v1/scoreboard", headers=sent)).json()["headers"]["traceparent"]
    assert received.split("-")[1] == trace
    assert received.split("-")[2] != "b7ad6b7169203331"
    async with asyncio.timeout(30):
        while not any(request["path"] == "/v1/traces" for request in gateway.collector.requests):
            await asyncio.sleep(0.1)


async def test_the_log_tells_no_secrets(client: httpx.AsyncClient, gateway: Gateway) -> None:
    """The access log has neither query nor token."""
    await client.get("/api/v1/scoreboard?secret=hidden", headers={"authorization": "Bearer hidden-too"})
    await client.get("/nowhere?secret=hidden")
    async with asyncio.timeout(30):
        while "/nowhere" not in gateway.envoy.log_end():
            await asyncio.sleep(0.1)
    assert "hidden" not in gateway.envoy.log_end()
