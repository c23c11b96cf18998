"""The gateway when services are away."""

import asyncio
from pathlib import Path

import httpx

from tests.integration.gateway.conftest import Upstream, start_gateway
from tests.integration.gateway.test_gateway_http import UPDATE, problem
from tests.support.apps import run_app
from tests.support.processes import free_ports
from tests.support.stores import Stores


async def test_a_service_that_is_away_is_503(directory: Path, stores: Stores) -> None:
    """Nobody behind a path is 503 dependency-unavailable with Retry-After."""
    dead, collector = free_ports(2)
    gateway = await start_gateway(directory, stores, Upstream(), dead, Upstream(), collector)
    try:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            for answer in (await client.get("/api/v1/scoreboard"), await client.post(UPDATE, content=b"{}")):
                problem(answer, 503, "dependency-unavailable")
                assert answer.headers["retry-after"] == "1"
    finally:
        gateway.envoy.kill()
        gateway.ratelimit.kill()


async def test_a_gateway_that_is_full_refuses_and_lives(directory: Path, stores: Stores) -> None:
    """Without memory for more it answers 503 to clients; its probes pass, so nobody ends it and all its connections."""
    (dead, collector) = free_ports(2)
    gateway = await start_gateway(directory, stores, Upstream(), dead, Upstream(), collector, memory_bytes=2**20)
    try:
        async with httpx.AsyncClient(timeout=30) as client:
            async with asyncio.timeout(15):
                while (refused := await client.get(f"{gateway.url}/page")).status_code == 404:
                    await asyncio.sleep(0.1)
            problem(refused, 503, "dependency-unavailable")
            assert refused.headers["retry-after"] == "1"
            for probe in ("live", "ready"):
                answer = await client.get(f"http://127.0.0.1:{gateway.internal_port}/healthz/{probe}")
                assert answer.status_code == 200
    finally:
        gateway.envoy.kill()
        gateway.ratelimit.kill()


async def test_an_update_is_sent_once_a_read_again(directory: Path, stores: Stores) -> None:
    """A connection that breaks after the request was sent: a read is tried again, an update is not."""
    seen: list[bytes] = []

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/healthz/ready" not in head:
            seen.append(head.split(b" ", 1)[0])
        writer.close()

    (port,) = free_ports(1)
    server = await asyncio.start_server(break_off, "127.0.0.1", port)
    gateway = await start_gateway(directory, stores, Upstream(), port, Upstream(), free_ports(1)[0])
    try:
        async with server, httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            problem(await client.post(UPDATE, content=b"{}"), 503, "dependency-unavailable")
            assert seen == [b"POST"]
            problem(await client.get("/api/v1/scoreboard"), 503, "dependency-unavailable")
            assert seen.count(b"GET") > 1
    finally:
        gateway.envoy.kill()
        gateway.ratelimit.kill()


async def test_pods_that_are_gone_are_replaced_by_their_service(directory: Path, stores: Stores) -> None:
    """Where the known pods have all been replaced, the first request already reaches the new ones by the Service."""
    gone, collector = free_ports(2)
    upstream = Upstream()
    async with run_app(upstream, lifespan="off") as new:
        gateway = await start_gateway(directory, stores, upstream, gone, Upstream(), collector, service_port=new.port)
        try:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
                for _ in range(20):
                    assert (await client.post(UPDATE, content=b"{}")).status_code == httpx.codes.OK
                    assert (await client.get("/api/v1/scoreboard")).status_code == httpx.codes.OK
            assert len(upstream.requests) == 40
        finally:
            gateway.envoy.kill()
            gateway.ratelimit.kill()


async def test_known_pods_come_before_their_service(directory: Path, stores: Stores) -> None:
    """As long as pods are healthy requests go to them, so that Envoy balances and not the node."""
    pods, service = Upstream(), Upstream()
    async with run_app(pods, lifespan="off") as one, run_app(service, lifespan="off") as other:
        gateway = await start_gateway(
            directory, stores, pods, one.port, Upstream(), free_ports(1)[0], service_port=other.port
        )
        try:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
                for _ in range(20):
                    assert (await client.post(UPDATE, content=b"{}")).status_code == httpx.codes.OK
            assert (len(pods.requests), len(service.requests)) == (20, 0)
        finally:
            gateway.envoy.kill()
            gateway.ratelimit.kill()
