"""The WebSocket protocol through the gateway: subprotocols, messages, errors, limits, heartbeats."""

import asyncio
import contextlib
import json

import pytest
import websockets

from tests.e2e.play import raise_someone_in_the_top
from tests.support.client import Client, Session
from tests.support.instance import Instance
from tests.support.watcher import watch

PER_USER = 5
"""Connections that one user may hold (``maxConnectionsPerUser`` of the sample)."""


async def test_a_snapshot_comes_at_once(instance: Instance) -> None:
    """Whoever connects sees the board ``default`` without asking."""
    async with watch(instance.ws_url) as watcher:
        assert watcher.connection.subprotocol == "podium.v1"
        snapshot = await watcher.message("snapshot")
        assert set(snapshot) == {"type", "board", "epoch", "version", "rankings", "lastUpdated"}
        assert snapshot["board"] == "default"
        assert len(snapshot["rankings"]) <= 10


async def test_the_protocol_is_assumed_when_none_is_offered(instance: Instance) -> None:
    """Simple clients need not name it."""
    async with watch(instance.ws_url, protocols=None) as watcher:
        await watcher.message("snapshot")


async def test_a_token_is_taken_and_not_echoed(instance: Instance, session: Session) -> None:
    """The second subprotocol carries the token; the answer names only the first."""
    async with watch(instance.ws_url, token=session.access_token) as watcher:
        assert watcher.connection.subprotocol == "podium.v1"
        await watcher.message("snapshot")


async def test_a_wrong_token_is_refused_before_the_upgrade(instance: Instance) -> None:
    """401, and no connection."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with watch(instance.ws_url, token="nonsense"):
            pass
    assert refused.value.response.status_code == 401


async def test_every_change_arrives_and_versions_only_grow(client: Client, instance: Instance) -> None:
    """Each change of the top is pushed; the watcher itself checks that nothing goes backwards."""
    async with watch(instance.ws_url) as watcher:
        await watcher.message("snapshot")
        for _ in range(3):
            user_id, score = await raise_someone_in_the_top(client)
            await watcher.score_of(user_id, score)


async def test_subscribe_answers_with_a_snapshot(instance: Instance) -> None:
    """Subscribing again repeats the present snapshot."""
    async with watch(instance.ws_url) as watcher:
        await watcher.message("snapshot")
        seen = len(watcher.messages)
        await watcher.send({"type": "subscribe", "boards": ["default"]})
        assert (await watcher.message("snapshot", after=seen))["board"] == "default"


async def test_unsubscribe_ends_the_snapshots(client: Client, instance: Instance) -> None:
    """After unsubscribe no snapshot of the board comes until it is subscribed again."""
    async with watch(instance.ws_url) as watcher, watch(instance.ws_url) as other:
        await watcher.message("snapshot")
        await watcher.send({"type": "unsubscribe", "boards": ["default"]})
        await watcher.send({"type": "ping"})
        await watcher.message("pong")
        seen = len(watcher.messages)
        user_id, score = await raise_someone_in_the_top(client)
        await other.score_of(user_id, score)
        await watcher.send({"type": "ping"})
        await watcher.message("pong", after=seen)
        assert [message["type"] for message in watcher.messages[seen:]] == ["pong"]
        await watcher.send({"type": "subscribe", "boards": ["default"]})
        await watcher.score_of(user_id, score)


async def test_ping_gives_pong(instance: Instance) -> None:
    """Clients that cannot send protocol pings have their own."""
    async with watch(instance.ws_url) as watcher:
        await watcher.send({"type": "ping"})
        await watcher.message("pong")


async def test_a_token_can_be_renewed(client: Client, instance: Instance, session: Session) -> None:
    """``auth`` takes a newer token; a bad one is an error that keeps the connection."""
    async with watch(instance.ws_url, token=session.access_token) as watcher:
        await watcher.message("snapshot")
        renewed = (await client.refresh(session.refresh_token)).json()["access_token"]
        await watcher.send({"type": "auth", "token": renewed})
        await watcher.send({"type": "auth", "token": "nonsense"})
        await watcher.message("error")
        assert [message["type"] for message in watcher.messages].count("error") == 1
        await watcher.send({"type": "ping"})
        await watcher.message("pong")


@pytest.mark.parametrize(
    "message",
    [
        "no JSON",
        "[]",
        json.dumps({"type": "dance"}),
        json.dumps({"boards": ["default"]}),
        json.dumps({"type": "subscribe"}),
        json.dumps({"type": "subscribe", "boards": ["no-such-board"]}),
        json.dumps({"type": "subscribe", "boards": "default"}),
        json.dumps({"type": "ping", "x": "y" * 4096}),
    ],
    ids=["text", "list", "unknown type", "no type", "no boards", "unknown board", "boards is text", "over 4 KiB"],
)
async def test_an_error_keeps_the_connection(instance: Instance, message: str) -> None:
    """A bad message is answered with code and detail; the next good one works."""
    async with watch(instance.ws_url) as watcher:
        await watcher.send(message)
        error = await watcher.message("error")
        assert error["code"]
        assert error["detail"]
        await watcher.send({"type": "ping"})
        await watcher.message("pong")


async def _refusal(instance: Instance, session: Session) -> int | None:
    """The status of a refused upgrade, or the code with which the connection is closed."""
    try:
        async with watch(instance.ws_url, token=session.access_token) as watcher:
            return await watcher.closed()
    except websockets.InvalidStatus as refused:
        return refused.response.status_code


async def test_one_user_holds_only_so_many_connections(instance: Instance, session: Session) -> None:
    """One more than allowed is refused with 429 or closed with 4009, on whatever pod it arrives."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(PER_USER):
            watcher = await stack.enter_async_context(watch(instance.ws_url, token=session.access_token))
            await watcher.message("snapshot")
        assert await _refusal(instance, session) in {429, 4009}
    async with asyncio.timeout(20):
        while True:  # the places are free again
            try:
                async with watch(instance.ws_url, token=session.access_token) as again:
                    await again.message("snapshot")
                    break
            except (websockets.InvalidStatus, AssertionError):
                await asyncio.sleep(0.2)


async def test_a_revoked_session_loses_its_connection(client: Client, instance: Instance, session: Session) -> None:
    """A revocation ends what the token had opened."""
    async with watch(instance.ws_url, token=session.access_token) as watcher:
        await watcher.message("snapshot")
        assert (await client.revoke(session.refresh_token)).status_code == 200
        assert await watcher.closed(seconds=5) == 4001


@pytest.mark.timeout(90)
async def test_the_server_shows_that_it_lives(instance: Instance) -> None:
    """A heartbeat with the time comes every 25 s."""
    async with watch(instance.ws_url) as watcher:
        assert (await watcher.message("heartbeat", seconds=40))["time"]
