"""How the NATS servers are, as their own monitoring says."""

from __future__ import annotations

import asyncio

import aiohttp

from podium_operator.spec import Nats
from podium_operator.stores.status import StoreStatus

MONITOR_PORT = 8222
"""TCP port of each server's monitoring."""
ANSWER_SECONDS = 2.0
"""Longest wait for one server."""


async def cluster_status(*, name: str, namespace: str, spec: Nats) -> StoreStatus:
    """Return how the servers are: each with its JetStream, its peers and its streams in step. Never raises."""
    servers = [f"{name}-nats-{ordinal}" for ordinal in range(spec.replicas)]
    domain = f"{name}-nats-peers.{namespace}.svc:{MONITOR_PORT}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
        problems = await asyncio.gather(*(_problem(session, f"http://{server}.{domain}") for server in servers))
    wrong = {server: problem for server, problem in zip(servers, problems, strict=True) if problem}
    if not wrong:
        return StoreStatus(True, f"{len(servers)} servers", serving=True)
    majority = len(servers) - len(wrong) > len(servers) // 2
    return StoreStatus(False, "; ".join(f"{server}: {problem}" for server, problem in wrong.items()), serving=majority)


async def _problem(session: aiohttp.ClientSession, url: str) -> str:
    try:
        async with session.get(f"{url}/healthz") as answer:
            said = await answer.json(content_type=None)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return "no answer"
    return "" if said.get("status") == "ok" else str(said.get("error") or said.get("status"))
