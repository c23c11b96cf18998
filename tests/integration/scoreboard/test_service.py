"""The scoreboard service on real stores: reads, WebSocket, SSE, limits and drain, through real sockets."""

import asyncio
import contextlib
import json
import socket
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from podium.common.health import Health
from podium.common.security_state import REVOKED_PREFIX
from podium.scoreboard.app import drain
from podium.scoreboard.hub import Hub
from tests.integration.scoreboard.clients import close_of, fetch, message, refusal, shows, watching
from tests.integration.scoreboard.services import Issuer, Start
from tests.integration.scoreboard.support import Game, until
from tests.support.apps import RunningApp
from tests.support.processes import paused
from tests.support.stores import Stores


async def test_two_pods_show_the_same_top(start: Start, game: Game) -> None:
    """Each watcher sees versions that only grow, and at the end the order of SQL, on every pod."""
    (first, _), (second, _) = await start(), await start()
    async with watching(first) as one, watching(second) as two:
        for number in range(40):
            await game.score(f"user{number % 15}", number % 7 + 1)
        truth = msgspec.to_builtins(list(await game.truth(10)))
        last = []
        for connection in (one, two):
            seen: list[tuple[int, int]] = []
            while True:
                found = await message(connection, "snapshot")
                seen.append((found["epoch"], found["version"]))
                if found["rankings"] == truth:
                    break
            assert seen == sorted(set(seen))
            last.append(found)
        assert last[0] == last[1]
    await until(partial(shows, first, game), "GET shows it, too")


async def test_reads_have_validators_and_bounds(start: Start, game: Game) -> None:
    """ETag and 304, more places than the top, and a problem for each bad query."""
    pod, _ = await start()
    for number in range(12):
        await game.score(f"user{number:02}", number + 1)
    await until(partial(shows, pod, game), "the pod shows the top")
    answer = await fetch(pod, "/api/v1/scoreboard")
    again = await fetch(pod, "/api/v1/scoreboard", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    full = (await fetch(pod, "/api/v1/scoreboard?limit=1000")).json()
    assert full["rankings"] == msgspec.to_builtins(list(await game.truth()))
    assert (full["epoch"], full["version"]) == (answer.json()["epoch"], answer.json()["version"])
    assert len((await fetch(pod, "/api/v1/scoreboard?limit=3")).json()["rankings"]) == 3
    for query in ("limit=0", "limit=1001", "limit=x", "limit=1.0", "limit=", "other=1", "board=NO", "limit=1&limit=1"):
        bad = await fetch(pod, f"/api/v1/scoreboard?{query}")
        assert (bad.status_code, bad.json()["type"].rpartition("/")[2]) == (400, "malformed-request"), query
    assert (await fetch(pod, "/api/v1/scoreboard?board=nope")).status_code == 400


async def test_readers_keep_the_last_good_answer_while_redis_is_wiped(start: Start, game: Game, stores: Stores) -> None:
    """Top, a page beyond it and a user's place are never empty, and never go back, until a new epoch has them again."""
    pod, _ = await start()
    for number in range(40):
        await game.score(f"user{number}", number + 1)
    await until(partial(shows, pod, game), "the pod shows SQL's order")
    paths = ("/api/v1/scoreboard?limit=10", "/api/v1/scoreboard?limit=30", "/api/v1/scoreboard/users/user4?around=2")
    before = {path: (await fetch(pod, path)).json() for path in paths}
    await asyncio.to_thread(stores.redis.flush)
    seen = {path: [(found["epoch"], found["version"])] for path, found in before.items()}

    async def rebuilt() -> bool:
        for path in paths:
            answer = await fetch(pod, path)
            assert answer.status_code == 200, path
            document = answer.json()
            assert places_in(document) == places_in(before[path])
            seen[path].append((document["epoch"], document["version"]))
        return all(ages[-1][0] > ages[0][0] for ages in seen.values())

    await until(rebuilt, "a new epoch is shown")
    assert all(ages == sorted(ages) for ages in seen.values())


def places_in(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The places of a page, or those around a user."""
    places: list[dict[str, Any]] = document.get("rankings") or document["neighbours"]
    return places


async def test_a_user_has_a_rank_and_neighbours(start: Start, game: Game) -> None:
    """The places around the user, percentile and tier; 404 for others."""
    pod, _ = await start()
    for number in range(10):
        await game.score(f"user{number}", 20 * (number + 1))
    await until(partial(shows, pod, game), "the pod shows the top")
    own = (await fetch(pod, "/api/v1/scoreboard/users/user4?around=2")).json()
    assert (own["rank"], own["score"], own["tier"], own["players"]) == (6, 100, "silver", 10)
    assert own["percentile"] == pytest.approx(44.44)
    assert [place["rank"] for place in own["neighbours"]] == [4, 5, 6, 7, 8]
    missing = await fetch(pod, "/api/v1/scoreboard/users/nobody")
    assert (missing.status_code, missing.json()["type"].rpartition("/")[2]) == (404, "user-unknown")


async def test_messages_of_a_client(start: Start, game: Game) -> None:
    """Subscribe answers with a snapshot of each; every error is answered and keeps the connection."""
    pod, _ = await start()
    async with watching(pod, "podium.v1") as socket:
        assert socket.subprotocol == "podium.v1"
        assert (await message(socket, "snapshot"))["board"] == "default"
        await socket.send(json.dumps({"type": "subscribe", "boards": ["weekly", "default"]}))
        assert [(await message(socket, "snapshot"))["board"] for _ in range(2)] == ["weekly", "default"]
        bad: dict[str | bytes, str] = {
            "x" * 5000: "message-too-large",
            "{": "malformed-message",
            b"\x00": "malformed-message",
            "[]": "malformed-message",
            '{"type":"sing"}': "unknown-type",
            '{"type":"subscribe"}': "malformed-message",
            '{"type":"subscribe","boards":["nope"]}': "board-unknown",
            '{"type":"auth","token":"x"}': "token-invalid",
        }
        for text, code in bad.items():
            await socket.send(text)
            error = await message(socket, "error")
            assert (error["code"], bool(error["detail"])) == (code, True)
        await socket.send(json.dumps({"type": "unsubscribe", "boards": ["default"]}))
        await socket.send(json.dumps({"type": "ping"}))
        await message(socket, "pong")
        await game.score("ann", 1)
        await game.score("ann", 1, board="weekly")
        assert (await message(socket, "snapshot"))["board"] == "weekly"


async def test_tokens_at_the_handshake(start: Start, issuer: Issuer) -> None:
    """A token is never echoed; a wrong one is refused before the upgrade."""
    pod, _ = await start()
    async with watching(pod, "podium.v1", f"bearer.{issuer.token('ann')}") as socket:
        assert socket.subprotocol == "podium.v1"
        await message(socket, "snapshot")
    assert (await refusal(pod, "podium.v1", "bearer.nonsense"))["status"] == 401
    expired = await refusal(pod, "podium.v1", f"bearer.{issuer.token('ann', seconds=-1)}")
    assert expired["type"].endswith("token-expired")


async def test_a_token_expires_unless_it_is_renewed(start: Start, issuer: Issuer) -> None:
    """4001 for the one, a longer life for the other."""
    pod, _ = await start()
    short = f"bearer.{issuer.token('ann', seconds=2)}"
    async with watching(pod, "podium.v1", short) as lazy, watching(pod, "podium.v1", short) as keen:
        await keen.send(json.dumps({"type": "auth", "token": issuer.token("ann")}))
        assert (await close_of(lazy))[0] == 4001
        await keen.send(json.dumps({"type": "ping"}))
        await message(keen, "pong")
        await keen.send(json.dumps({"type": "auth", "token": issuer.token("ben")}))
        assert (await message(keen, "error"))["code"] == "token-invalid"


async def test_a_revoked_session_is_closed(start: Start, issuer: Issuer, game: Game) -> None:
    """On every pod, as soon as the revocation is known."""
    pod, _ = await start()
    token = issuer.token("ann", sid="session-of-ann")
    async with watching(pod, "podium.v1", f"bearer.{token}") as socket:
        await message(socket, "snapshot")
        bucket = await game.bus.security_bucket()
        await bucket.put(f"{REVOKED_PREFIX}session-of-ann", b'{"exp":0}')
        assert (await close_of(socket))[0] == 4001
    assert (await refusal(pod, "podium.v1", f"bearer.{token}"))["status"] == 401


async def test_connections_are_counted_across_pods(start: Start, issuer: Issuer) -> None:
    """One more than the limit is refused wherever it arrives; a place that is given back is free."""
    limits = {"max_connections_per_user": 2, "max_connections_per_ip": 4}
    (first, _), (second, _) = await start(**limits), await start(**limits)
    bearer = f"bearer.{issuer.token('ann')}"
    async with watching(first, "podium.v1", bearer) as one, watching(second, "podium.v1", bearer):
        await message(one, "snapshot")
        for pod in (first, second):
            assert (await refusal(pod, "podium.v1", bearer))["status"] == 429
        async with watching(first), watching(second) as anonymous:
            assert (await refusal(second))["type"].endswith("too-many-connections")
            await anonymous.send(json.dumps({"type": "auth", "token": issuer.token("ann")}))
            assert (await close_of(anonymous))[0] == 4009

    async def free() -> bool:
        with contextlib.suppress(websockets.InvalidStatus):
            async with watching(second, "podium.v1", bearer):
                return True
        return False

    await until(free, "the places are free again")


async def test_a_traced_handshake_is_let_in_alike(start: Start, game: Game, issuer: Issuer) -> None:
    """It goes through the framework, where it gets its span; what the client sees is the same."""
    pod, app = await start(max_connections_per_user=1)
    await game.score("ann", 1)
    await until(partial(shows, pod, game), "the pod shows the top")
    seen = []
    for flags in ("00", "01"):
        offered = [Subprotocol("podium.v1"), Subprotocol(f"bearer.{issuer.token(f'user{flags}')}")]
        headers = {"traceparent": f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"}
        url = f"{pod.ws_url}/ws/scoreboard"
        async with connect(
            url, subprotocols=offered, additional_headers=headers, user_agent_header="Mozilla/5.0"
        ) as one:
            (watcher,) = app.state.runtime.hub.watchers
            seen.append((await message(one, "snapshot"), one.subprotocol, watcher.agent, watcher.encoding))
            assert (await refusal(pod, *offered))["status"] == 429

        async def gone() -> bool:
            return not app.state.runtime.hub.watchers

        await until(gone, "the connection is gone")
    assert seen[0] == seen[1]
    assert seen[0][1:] == (Subprotocol("podium.v1"), "browser", 15)


async def test_a_client_that_does_not_wait_for_the_answer_is_cut_off(start: Start) -> None:
    """RFC 6455, section 4.1: nothing is sent before the handshake is over."""
    pod, app = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    lines = b"GET /ws/scoreboard HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    limiter = app.state.runtime.gateway.limiter
    asked, loop = limiter.request, asyncio.get_running_loop()
    limiter.request = lambda *request: loop.call_later(0.5, asked, *request)
    writer.write(lines + key)
    await writer.drain()

    async def opening() -> bool:
        server = pod.server
        return any(type(one).__name__ == "Opening" for one in server.server_state.connections)

    await until(opening, "the lease is being asked for")
    writer.write(b"\x81\x80abcd")
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read(1) == b""
    assert len(app.state.runtime.hub) == 0
    writer.close()


async def test_redis_away_leaves_a_local_bound(start: Start, stores: Stores, issuer: Issuer) -> None:
    """Watchers are still let in, as many as this pod alone may have; the top is served from memory."""
    pod, _ = await start(max_connections_per_user=1)
    bearer = f"bearer.{issuer.token('ann')}"
    with paused(stores.redis.processes):
        async with watching(pod, "podium.v1", bearer) as socket:
            await message(socket, "snapshot")
            assert (await refusal(pod, "podium.v1", bearer))["status"] == 429
            assert (await fetch(pod, "/api/v1/scoreboard")).status_code == 200
            away = await fetch(pod, "/api/v1/scoreboard/users/ann", timeout=30)
            assert (away.status_code, away.json()["type"].rpartition("/")[2]) == (503, "dependency-unavailable")


async def test_a_silent_connection_is_dropped(start: Start) -> None:
    """Heartbeats come, and who answers no ping for two of them is gone; who answers stays."""
    pod, app = await start(ws_heartbeat_seconds=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    writer.write(
        b"GET /ws/scoreboard HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with watching(pod) as alive:
        async with asyncio.timeout(15):
            with contextlib.suppress(ConnectionResetError):
                while await reader.read(65536):
                    continue
        assert (await message(alive, "heartbeat"))["time"].endswith("Z")
        assert len(app.state.runtime.hub) == 1
    writer.close()


async def test_a_slow_watcher_skips_to_the_newest(start: Start, game: Game) -> None:
    """One that does not read is skipped and at last closed with 4008, while the others get every broadcast."""
    pod, app = await start(ws_slow_seconds=2)
    hub: Hub = app.state.runtime.hub
    raw = socket.create_connection(("127.0.0.1", pod.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sendall(
        b"GET /ws/scoreboard HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )

    async def joined() -> bool:
        return len(hub) == 2

    async def gone() -> bool:
        await game.score(players[0], 1)
        return len(hub) == 1

    players = [f"{number:0500}" for number in range(10)]  # a top of 10 KB
    for player in players:
        await game.score(player, 1)
    async with watching(pod) as reader:
        await until(joined, "both watch")
        await until(gone, "the slow one is dropped")
        await game.score("ben", 5)
        while not any(place["userId"] == "ben" for place in (await message(reader, "snapshot"))["rankings"]):
            continue
    raw.close()


async def test_server_sent_events(start: Start, game: Game) -> None:
    """The same snapshots as events with ids."""
    pod, app = await start()
    url = f"{pod.url}/api/v1/scoreboard/stream?board=weekly"
    async with httpx.AsyncClient(timeout=15) as client, client.stream("GET", url) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.aiter_lines()
        assert await anext(lines) == "event: snapshot"
        await game.score("ann", 7, board="weekly")
        async for line in lines:
            if line.startswith("data: ") and json.loads(line[6:])["rankings"]:
                break

    async def left() -> bool:
        return len(app.state.runtime.hub) == 0

    await until(left, "the stream is forgotten")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Extensions": "permessage-deflate; ="}, 400),
        ({"Sec-WebSocket-Protocol": "podium v1"}, 400),
    ],
)
async def test_a_wrong_handshake_is_told_what_is_wrong(start: Start, change: dict[str, str], status: int) -> None:
    """By a problem document, and the version that is spoken where it is another."""
    pod, _ = await start()
    ordinary = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = await fetch(pod, "/ws/scoreboard", headers=ordinary | change)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"].endswith("/malformed-request")
    assert answer.headers.get("sec-websocket-version") == ("13" if status == 426 else None)


async def test_watchers_stay_while_nats_is_away(start: Start, game: Game, stores: Stores) -> None:
    """The pod stays ready, says what it lacks, goes on showing what it has, and never shows anything older."""
    pod, _ = await start()
    await game.score("ann", 10)
    await until(partial(shows, pod, game), "the pod shows SQL's order")

    async def degraded(*expected: str) -> bool:
        answer = await fetch(pod, "/healthz/ready")
        assert answer.status_code == 200
        return tuple(answer.json()["degraded"]) == expected

    assert await degraded()
    async with watching(pod) as one:
        first = await message(one, "snapshot")
        await asyncio.to_thread(stores.nats.process.kill)
        await until(partial(degraded, "nats"), "readiness names NATS")
        await until(partial(_measures, pod, "podium_scoreboard_feed_connected 0.0"), "the metric says so, too")
        async with watching(pod) as late:
            assert await message(late, "snapshot") == first
        await asyncio.to_thread(stores.nats.process.restart)
        await until(degraded, "readiness names nothing any more")
        await game.score("bob", 20)
        ages = [(first["epoch"], first["version"])]
        while True:
            found = await message(one, "snapshot")
            ages.append((found["epoch"], found["version"]))
            if [place["userId"] for place in found["rankings"]] == ["bob", "ann"]:
                break
        assert ages == sorted(set(ages))


async def _measures(pod: RunningApp, line: str) -> bool:
    return line in (await fetch(pod, "/metrics")).text.splitlines()


async def test_a_drain_sends_everyone_away(start: Start) -> None:
    """Readiness goes off first, then each watcher is closed with 1001 and a time to come back."""
    health = Health()
    pod, app = await start(health=health)
    async with watching(pod) as one, watching(pod) as two:
        draining = asyncio.create_task(drain(app, health, 1.0, per_second=150.0))
        for connection in (one, two):
            code, reason = await close_of(connection)
            assert code == 1001
            assert json.loads(reason or "")["retryAfterMs"] >= 0
        assert health.missing() == ["draining"]
        await draining
    assert (await refusal(pod))["status"] == 503


async def test_pages_and_descriptions(start: Start) -> None:
    """The page has a strict policy; AsyncAPI names what the server speaks."""
    pod, _ = await start(ws_heartbeat_seconds=0.5)
    page = await fetch(pod, "/")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert 'data-heartbeat-ms="500"' in page.text, "so the page knows when silence is too long"
    assert (await fetch(pod, "/", headers={"If-None-Match": page.headers["etag"]})).status_code == 304
    assert (await fetch(pod, "/assets/page.js")).headers["content-security-policy"]
    document = (await fetch(pod, "/asyncapi.json")).json()
    assert document["asyncapi"].startswith("3.")
    metrics = (await fetch(pod, "/metrics")).text
    assert "podium_scoreboard_connections" in metrics
