"""What one client, and all together, may ask of a pod: messages, boards, connections."""

import asyncio
import contextlib
import json

import pytest
import websockets

from podium.scoreboard import metrics
from podium.scoreboard.pace import BURST
from tests.integration.scoreboard.clients import close_of, fetch, message, refusal, watching
from tests.integration.scoreboard.services import Issuer, Start
from tests.integration.scoreboard.support import until

PING = json.dumps({"type": "ping"})

MORE = BURST + 15
"""Messages at once: above a burst, and not yet a flood."""


def refused(reason: str) -> float:
    """Connections refused for a reason, as the metrics have it."""
    value = metrics.CONNECTIONS_REFUSED.labels(reason)._value.get()
    return float(value)


async def test_a_client_that_speaks_too_fast_is_told_and_then_closed(start: Start) -> None:
    """A burst is answered; what is above is an error and not carried out; who goes on is closed with 1008."""
    pod, app = await start()
    async with watching(pod) as socket:
        await message(socket, "snapshot")
        for _ in range(MORE):
            await socket.send(PING)
        answers = [json.loads(await socket.recv()) for _ in range(MORE)]
        errors = [one for one in answers if one["type"] == "error"]
        assert answers[:BURST] == [{"type": "pong"}] * BURST
        assert errors
        assert {one["code"] for one in errors} == {"rate-limited"}
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await socket.send(PING)
                await asyncio.sleep(0)  # the pod shares this loop
        assert await close_of(socket) == (1008, "too many messages")

    async def forgotten() -> bool:
        return len(app.state.runtime.hub) == 0

    await until(forgotten, "the pod has forgotten the connection")


async def test_a_client_that_slows_down_is_heard_again(start: Start) -> None:
    """The error costs nothing but the message."""
    pod, _ = await start()
    async with watching(pod) as socket:
        await message(socket, "snapshot")
        for _ in range(MORE):
            await socket.send(PING)
        assert "error" in [json.loads(await socket.recv())["type"] for _ in range(MORE)]

        async def heard() -> bool:
            await asyncio.sleep(0.2)  # half the pace that is allowed
            await socket.send(PING)
            return bool(json.loads(await socket.recv())["type"] == "pong")

        await until(heard, "a ping is answered again")


async def test_boards_bound_subscriptions(start: Start) -> None:
    """The same board named again and again is one subscription, and one snapshot for each message."""
    pod, app = await start()
    async with watching(pod) as socket:
        await message(socket, "snapshot")
        await socket.send(json.dumps({"type": "subscribe", "boards": ["weekly"] * 200}))
        await socket.send(json.dumps({"type": "subscribe", "boards": ["weekly", "default"]}))
        await socket.send(PING)
        seen = []
        while (found := json.loads(await socket.recv()))["type"] != "pong":
            seen.append(found["board"])
        assert seen == ["weekly", "weekly", "default"]
        (watcher,) = app.state.runtime.hub.watchers
        assert watcher.boards == ("default", "weekly")


@pytest.mark.parametrize("traced", [False, True], ids=["the short way", "the usual way"])
async def test_a_full_pod_sends_clients_to_another(start: Start, issuer: Issuer, traced: bool) -> None:
    """503 with Retry-After before the upgrade, for WebSockets and streams; a place that is given back is free."""
    (full, app), (other, _) = await start(max_connections=2), await start()
    before = refused("full")
    headers = {"traceparent": f"00-{1:032x}-{1:016x}-01"} if traced else {}
    async with watching(full, headers=headers) as one, watching(full, headers=headers) as two:
        await message(one, "snapshot")
        await message(two, "snapshot")
        problem = await refusal(full, headers=headers)
        assert (problem["status"], problem["type"].rpartition("/")[2]) == (503, "dependency-unavailable")
        assert (await refusal(full, f"bearer.{issuer.token('ann')}", headers=headers))["status"] == 503
        stream = await fetch(full, "/api/v1/scoreboard/stream")
        assert (stream.status_code, stream.headers["retry-after"]) == (503, "1")
        assert (await fetch(full, "/healthz/ready")).status_code == 200, "it still serves those it has"
        assert refused("full") == before + 3
        async with watching(other) as third:
            await message(third, "snapshot")

    async def free() -> bool:
        return len(app.state.runtime.hub) == 0

    await until(free, "the places are free")
    async with watching(full, headers=headers) as again:
        await message(again, "snapshot")


async def test_no_more_are_let_in_at_once_than_there_is_room(start: Start) -> None:
    """Handshakes of one moment, whose leases are still being asked for, are counted."""
    pod, app = await start(max_connections=5)
    async with contextlib.AsyncExitStack() as stack:

        async def come() -> int:
            try:
                await stack.enter_async_context(watching(pod))
            except websockets.InvalidStatus as answer:
                return answer.response.status_code
            return 101

        answers = await asyncio.gather(*(come() for _ in range(30)))
        assert sorted(answers) == [101] * 5 + [503] * 25
        assert len(app.state.runtime.hub) == 5
