"""Clients of a scoreboard pod in tests: sockets, and single requests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.integration.scoreboard.support import Game
from tests.support.apps import RunningApp


@contextlib.asynccontextmanager
async def watching(
    pod: RunningApp, *subprotocols: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[ClientConnection]:
    """A WebSocket to a pod."""
    offered = [Subprotocol(one) for one in subprotocols] or None
    url = f"{pod.ws_url}/ws/scoreboard"
    async with connect(url, subprotocols=offered, additional_headers=headers, ping_interval=None) as socket:
        yield socket


async def message(connection: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a type."""
    async with asyncio.timeout(15):
        while True:
            found: dict[str, Any] = json.loads(await connection.recv())
            if found["type"] == kind:
                return found


async def close_of(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Code and reason with which the connection ends."""
    async with asyncio.timeout(15):
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code, connection.close_reason


async def refusal(pod: RunningApp, *subprotocols: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The problem document with which a handshake is refused."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with watching(pod, *subprotocols, headers=headers):
            pass
    answer = caught.value.response
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(answer.body or b"")
    assert problem["status"] == answer.status_code
    return problem


def get(pod: RunningApp, path: str, **options: Any) -> httpx.Response:
    """One request to a pod."""
    return httpx.get(pod.url + path, **options)


async def fetch(pod: RunningApp, path: str, **options: Any) -> httpx.Response:
    """One request to a pod, without stopping the loop in which the pod runs."""
    return await asyncio.to_thread(partial(get, pod, path, **options))


async def shows(pod: RunningApp, game: Game) -> bool:
    """Whether the pod's scoreboard is SQL's."""
    rankings = (await fetch(pod, "/api/v1/scoreboard")).json()["rankings"]
    return bool(rankings == msgspec.to_builtins(list(await game.truth(10))))
