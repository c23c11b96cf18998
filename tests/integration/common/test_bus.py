"""The bus where somebody publishes what no consumer can read, or what the server does not take."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from nats.js.errors import APIError

from podium.common.bus import DLQ_STREAM, EVENT_MAX_BYTES, EVENTS_STREAM, SCORE_UPDATED, connect
from podium.common.problems import StoreUnavailable
from podium.common.security_state import SecurityState
from podium.common.settings import NatsSettings

ORDERS = {
    "Nats-Expected-Stream": EVENTS_STREAM,
    "Nats-Expected-Last-Sequence": "0",
    "Nats-Msg-Id": "poison",
    "Color": "red",
}
"""Headers by which a publisher gives the server orders, and one that is only a header."""


async def test_a_dead_letter_gives_the_server_no_orders(nats_settings: NatsSettings) -> None:
    """It keeps what the message had; what was meant for the event stream is no condition for the dead letters."""
    async with await connect(nats_settings, "test") as bus:
        await bus.jetstream.publish(SCORE_UPDATED, b"poison", headers=ORDERS)
        subscription = await bus.pull("test", SCORE_UPDATED)
        (message,) = await subscription.fetch(1, timeout=5)
        await bus.dead_letter("test", message, "cannot be read")
        letter = await bus.jetstream.get_msg(DLQ_STREAM, seq=1)
        headers = letter.headers or {}
        assert (letter.data, headers["Podium-Reason"], headers["Color"]) == (b"poison", "cannot be read", "red")
        assert headers["Podium-Original-Nats-Expected-Stream"] == EVENTS_STREAM
        assert headers["Podium-Original-Nats-Msg-Id"] == "poison"


async def test_a_header_that_cannot_be_sent_holds_no_message_back(nats_settings: NatsSettings) -> None:
    """The server stores any name; the client library sends only tokens."""
    async with await connect(nats_settings, "test") as bus:
        await _publish_raw(nats_settings, SCORE_UPDATED, b"NATS/1.0\r\nno(token): 1\r\nColor: red\r\n\r\n", b"poison")
        subscription = await bus.pull("test", SCORE_UPDATED)
        (message,) = await subscription.fetch(1, timeout=5)
        await bus.dead_letter("test", message, "cannot be read")
        letter = await bus.jetstream.get_msg(DLQ_STREAM, seq=1)
        headers = letter.headers or {}
        assert (letter.data, headers["Podium-Reason"], headers["Color"]) == (b"poison", "cannot be read", "red")


async def _publish_raw(settings: NatsSettings, subject: str, headers: bytes, payload: bytes) -> None:
    """Publish with headers as they are, by the protocol of NATS clients."""
    address = urlsplit(settings.url.split(",")[0])
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    await reader.readline()
    hello = {"verbose": False, "headers": True, "user": settings.user, "pass": settings.password.get_secret_value()}
    sizes = f"{len(headers)} {len(headers) + len(payload)}"
    writer.write(f"CONNECT {json.dumps(hello)}\r\nHPUB {subject} {sizes}\r\n".encode() + headers + payload)
    writer.write(b"\r\nPING\r\n")
    while await reader.readline() != b"PONG\r\n":
        continue
    writer.close()
    await writer.wait_closed()


async def test_the_largest_event_fits_as_a_dead_letter_and_a_larger_one_is_refused(nats_settings: NatsSettings) -> None:
    """Whoever publishes too much hears of it; no consumer meets a message that it could not put away."""
    async with await connect(nats_settings, "test") as bus:
        with pytest.raises(APIError, match="maximum"):
            await bus.jetstream.publish(SCORE_UPDATED, b"x" * EVENT_MAX_BYTES, headers=ORDERS)
        await bus.jetstream.publish(SCORE_UPDATED, b"x" * (EVENT_MAX_BYTES - 1024), headers=ORDERS)
        subscription = await bus.pull("test", SCORE_UPDATED)
        (message,) = await subscription.fetch(1, timeout=5)
        await bus.dead_letter("test", message, "cannot be read")
        assert (await bus.jetstream.stream_info(DLQ_STREAM)).state.messages == 1


async def test_a_loop_ends_with_its_connection(nats_settings: NatsSettings) -> None:
    """A connection that the server ended for good is not waited for: the process is to be replaced."""
    async with await connect(nats_settings, "test") as bus:
        assert not bus.closed
        await bus.client.close()  # what the client does by itself when the server calls its message too large
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(SecurityState().run(bus), 10)
        assert bus.closed
