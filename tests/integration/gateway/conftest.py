"""A real gateway: Envoy with the rendered configuration, the rate-limit service, the Redis Cluster, small upstreams."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from podium_operator.builders import envoy, envoy_routes, ratelimit
from podium_operator.spec import Security
from tests.support.apps import run_app
from tests.support.gateway import envoy_process, ratelimit_process
from tests.support.processes import Process, free_ports, scratch_directory
from tests.support.stores import Stores

READS_PER_MINUTE = 30
"""readsPerIPPerMinute of these tests."""


@dataclass
class Upstream:
    """Stands for every service: answers with what it received."""

    requests: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": f"{headers['x-podium-client-ip']} {message['text']}"})
            return
        body = b""
        more = True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        path = scope["raw_path"].decode()
        seen = {"method": scope["method"], "path": path, "headers": headers, "body_bytes": len(body)}
        if path != "/healthz/ready":
            self.requests.append(seen)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@dataclass
class Gateway:
    """A running gateway."""

    port: int
    proxied_port: int
    internal_port: int
    upstream: Upstream
    envoy: Process
    ratelimit: Process
    collector: Upstream
    key: Ed25519PrivateKey

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    def token(self, user: str) -> str:
        """An access token of `user`."""
        claims = {"sub": user, "exp": int(time.time()) + 300, "iss": "podium", "aud": "podium"}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "test", "typ": "at+jwt"})

    async def statistic(self, name: str) -> int:
        """Sum of one of Envoy's counters over its labels."""
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"http://127.0.0.1:{self.internal_port}/metrics")).text.splitlines()
        return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory of the test's own."""
    with scratch_directory() as path:
        yield path


async def start_gateway(
    directory: Path, stores: Stores, upstream: Upstream, upstream_port: int, collector: Upstream, collector_port: int,
    trusted_proxies: tuple[str, ...] = (), service_port: int | None = None,
    memory_bytes: int = 512 * 2**20,
) -> Gateway:  # fmt: skip
    """Envoy and the rate-limit service; `service_port` is that of the Service before the pods at `upstream_port`."""
    stores.redis.flush()
    key = Ed25519PrivateKey.generate()
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
    jwks = directory / "jwks.json"
    jwks.write_text(json.dumps({"keys": [{**jwk, "kid": "test", "alg": "EdDSA", "use": "sig"}]}))
    port, proxied, internal, admin, grpc, http, debug, metrics = free_ports(8)
    endpoints = dict.fromkeys(envoy_routes.SERVICES, ("127.0.0.1", upstream_port))
    settings = envoy.Settings(
        endpoints={**endpoints, ratelimit.COMPONENT: ("127.0.0.1", grpc)},
        jwks_path=str(jwks),
        fallbacks=dict.fromkeys(envoy_routes.SERVICES, ("127.0.0.1", service_port)) if service_port else {},
        trusted_proxies=trusted_proxies,
        otlp_endpoint=f"http://127.0.0.1:{collector_port}",
        memory_bytes=memory_bytes,
        plain_port=port,
        proxied_port=proxied,
        internal_port=internal,
        admin_port=admin,
        address="127.0.0.1",
    )
    security = Security.model_validate({"readsPerIPPerMinute": READS_PER_MINUTE, "requestsPerIPPerMinute": 100000})
    limits = ratelimit_process(directory, stores.redis.settings(), security, (grpc, http, debug, metrics))
    running = envoy_process(directory, settings)
    gateway = Gateway(port, proxied, internal, upstream, running, limits, collector, key)
    gateway.ratelimit.start()
    gateway.envoy.start()
    # The upstream lives in this process's loop, so waiting must not block it.
    await asyncio.gather(asyncio.to_thread(gateway.ratelimit.wait_ready), asyncio.to_thread(gateway.envoy.wait_ready))
    return gateway


@pytest.fixture
async def gateway(directory: Path, stores: Stores, request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """A gateway with fresh limits; parametrize indirectly with the trusted proxies."""
    upstream, collector = Upstream(), Upstream()
    async with run_app(upstream, lifespan="off") as one, run_app(collector, lifespan="off") as other:
        running = await start_gateway(
            directory, stores, upstream, one.port, collector, other.port, getattr(request, "param", ())
        )
        try:
            yield running
        finally:
            running.envoy.kill()
            running.ratelimit.kill()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the gateway."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as made:
        yield made
