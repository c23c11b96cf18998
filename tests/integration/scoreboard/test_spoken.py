"""A running pod says and takes what its AsyncAPI document says: every message, every end, every refusal, the stream."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from podium.common.health import Health
from podium.scoreboard.app import drain
from podium.scoreboard.connection import MAX_FRAME_BYTES
from podium.scoreboard.pace import BURST
from tests.integration.scoreboard.clients import close_of, fetch, refusal, watching
from tests.integration.scoreboard.services import Issuer, Start
from tests.integration.scoreboard.support import Game
from tests.support.apps import RunningApp
from tests.support.spoken import Spoken


async def description(pod: RunningApp) -> dict[str, Any]:
    """The document that a pod serves."""
    document: dict[str, Any] = (await fetch(pod, "/asyncapi.json")).json()
    return document


async def said(spoken: Spoken, connection: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind; all that come are checked."""
    async with asyncio.timeout(15):
        while True:
            text = await connection.recv()
            assert isinstance(text, str)
            message = spoken.check(text)
            if message["type"] == kind:
                return message


async def test_every_message_is_as_described(start: Start, game: Game, issuer: Issuer) -> None:
    """All kinds of the server and all codes of errors are seen, and none that the document lacks."""
    pod, _ = await start(ws_heartbeat_seconds=1)
    document = await description(pod)
    spoken = Spoken(document)
    await game.score("ann", 1)
    causes = {
        "malformed-message": "{",
        "message-too-large": "x" * 5000,
        "unknown-type": json.dumps({"type": "snapshot"}),
        "board-unknown": json.dumps({"type": "subscribe", "boards": ["nope"]}),
        "token-invalid": json.dumps({"type": "auth", "token": "x"}),
        "token-expired": json.dumps({"type": "auth", "token": issuer.token("ann", seconds=-1)}),
    }
    async with watching(pod) as connection:
        for kind in ("snapshot", "heartbeat"):
            await said(spoken, connection, kind)
        for code, text in causes.items():
            await connection.send(text)
            assert (await said(spoken, connection, "error"))["code"] == code
        await connection.send(json.dumps({"type": "ping"}))
        await said(spoken, connection, "pong")
    async with watching(pod) as connection:
        await said(spoken, connection, "snapshot")
        for _ in range(BURST + 15):
            await connection.send(json.dumps({"type": "ping"}))
        answers = [spoken.check(str(await connection.recv())) for _ in range(BURST + 15)]
        assert {answer["code"] for answer in answers if answer["type"] == "error"} == {"rate-limited"}
    assert spoken.from_server == {"snapshot", "heartbeat", "pong", "error"}
    codes = document["components"]["messages"]["error"]["payload"]["properties"]["code"]["enum"]
    assert set(codes) == {*causes, "rate-limited"}


async def test_every_message_of_a_client_is_taken(start: Start, issuer: Issuer) -> None:
    """The examples of the document, with a token that is one; what they cause is as described."""
    pod, _ = await start()
    document = await description(pod)
    spoken = Spoken(document)
    answers = {"subscribe": ["snapshot"], "unsubscribe": [], "ping": ["pong"], "auth": []}
    assert spoken.from_client == set(answers)
    async with watching(pod) as connection:
        await said(spoken, connection, "snapshot")
        for kind, expected in answers.items():
            (example,) = document["components"]["messages"][kind]["examples"]
            message = example["payload"]
            if kind == "auth":
                message = {**message, "token": issuer.token("ann")}
            assert spoken.kind_of(message, spoken.from_client) == kind
            await connection.send(json.dumps(message))
            for answer in expected:
                await said(spoken, connection, answer)
        await connection.send(json.dumps({"type": "ping"}))
        assert spoken.check(str(await connection.recv()))["type"] == "pong", "nothing else was answered"


@dataclass
class Scene:
    """Where a connection is brought to its end."""

    pod: RunningApp
    app: FastAPI
    health: Health
    game: Game
    issuer: Issuer


End = Callable[[Scene, ClientConnection], Awaitable[object]]


async def _drain(scene: Scene, _: ClientConnection) -> None:
    await drain(scene.app, scene.health, 0.4, per_second=150.0)


async def _break_the_protocol(_: Scene, connection: ClientConnection) -> None:
    connection.transport.write(b"\x83\x80abcd")  # an opcode that does not exist


async def _send_no_text(_: Scene, connection: ClientConnection) -> None:
    connection.transport.write(b"\x81\x81\x00\x00\x00\x00\xff")  # a text message that is not UTF-8


async def _send_without_end(_: Scene, connection: ClientConnection) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await connection.send(json.dumps({"type": "ping"}))
            await asyncio.sleep(0)  # the pod shares this loop


async def _send_too_much(_: Scene, connection: ClientConnection) -> None:
    await connection.send("x" * (MAX_FRAME_BYTES + 1))


async def _stop(scene: Scene, _: ClientConnection) -> None:
    scene.pod.server.should_exit = True


async def _let_the_token_expire(scene: Scene, connection: ClientConnection) -> None:
    await connection.send(json.dumps({"type": "auth", "token": scene.issuer.token("ann", seconds=1.5)}))


async def _be_one_too_many(scene: Scene, connection: ClientConnection) -> None:
    token = json.dumps({"type": "auth", "token": scene.issuer.token("ann")})
    async with watching(scene.pod) as other:
        await other.send(token)
        await other.send(json.dumps({"type": "ping"}))
        while "pong" not in str(await other.recv()):
            continue
        await connection.send(token)
        await connection.wait_closed()


async def _read_nothing(scene: Scene, _: ClientConnection) -> None:
    players = [f"{number:0500}" for number in range(10)]  # a top of 10 KB
    async with asyncio.timeout(60):
        while len(scene.app.state.runtime.hub) > 0:
            for player in players:
                await scene.game.score(player, 1)


ENDS: dict[int, End] = {
    1001: _drain,
    1002: _break_the_protocol,
    1007: _send_no_text,
    1008: _send_without_end,
    1009: _send_too_much,
    1012: _stop,
    4001: _let_the_token_expire,
    4008: _read_nothing,
    4009: _be_one_too_many,
}


@contextlib.asynccontextmanager
async def narrow(pod: RunningApp) -> AsyncIterator[ClientConnection]:
    """A WebSocket through which little passes while nobody takes its messages."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", pod.port))
    url = f"{pod.ws_url}/ws/scoreboard"
    async with connect(url, sock=raw, compression=None, max_queue=1, ping_interval=None) as connection:
        yield connection


@pytest.mark.parametrize("code", ENDS)
async def test_every_end_is_as_described(start: Start, game: Game, issuer: Issuer, code: int) -> None:
    """Each close code that the document has, with the reason that it says."""
    health = Health()
    pod, app = await start(health=health, ws_slow_seconds=1, max_connections_per_user=1)
    spoken = Spoken(await description(pod))
    assert set(ENDS) == spoken.close_codes
    async with narrow(pod) as connection:
        assert spoken.check(str(await connection.recv()))["type"] == "snapshot"
        scene = Scene(pod, app, health, game, issuer)
        ending = asyncio.ensure_future(ENDS[code](scene, connection))
        if code == 4008:
            await ending
        assert spoken.check_close(*await close_of(connection)) == code
        await ending


async def test_every_refusal_is_as_described(start: Start, issuer: Issuer) -> None:
    """A wrong token, one too many of an address, and a pod that is full."""
    (strict, _), (full, _) = await start(max_connections_per_ip=1), await start(max_connections=1)
    spoken = Spoken(await description(strict))
    seen = {(await refusal(strict, "podium.v1", "bearer.nonsense"))["status"]}
    async with watching(strict):
        seen.add((await refusal(strict))["status"])
    async with watching(full):
        seen.add((await refusal(full))["status"])
    assert seen == spoken.refusals


async def test_a_stream_says_the_same(start: Start, game: Game) -> None:
    """Each event is a snapshot as described, under its id; heartbeats are comments."""
    pod, _ = await start(ws_heartbeat_seconds=1)
    document = await description(pod)
    spoken = Spoken(document)
    url = f"{pod.url}{document['channels']['stream']['address']}?board=weekly"
    await game.score("ann", 7, board="weekly")
    comments = snapshots = 0
    async with httpx.AsyncClient(timeout=15) as client, client.stream("GET", url) as answer:
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
                continue
            if "" in fields:
                comments += 1
            else:
                message = spoken.check(fields["data"])
                assert message["board"] == "weekly"
                assert (fields["event"], fields["id"]) == ("snapshot", f"{message['epoch']}:{message['version']}")
                snapshots += 1
            fields = {}
            if comments and snapshots:
                break
