"""Replies are read the same however they are cut, and never mixed up."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.common.redis_link import RedisLink, ReplyError, command

replies = st.lists(
    st.none() | st.binary(max_size=12) | st.sampled_from(["MOVED 5 127.0.0.1:1", "ERR no"]), min_size=1, max_size=6
)


class Wire(asyncio.Transport):
    """A transport that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def linked() -> tuple[RedisLink, Wire]:
    link, wire = RedisLink(), Wire()
    link.connection_made(wire)
    return link, wire


def encoded(reply: bytes | str | None) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    return b"-%b\r\n" % reply.encode() if isinstance(reply, str) else b"$%d\r\n%b\r\n" % (len(reply), reply)


@given(st.lists(replies, min_size=1, max_size=4), st.lists(st.integers(0, 200), max_size=6))
async def test_replies_reach_who_asked(batches: list[list[bytes | str | None]], cuts: list[int]) -> None:
    """Each batch gets its own replies in order, wherever the network cuts them."""
    link, _ = linked()
    futures = [link.send(b"x", len(batch)) for batch in batches]
    data = b"".join(encoded(reply) for batch in batches for reply in batch)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        link.data_received(data[start:end])
    for batch, future in zip(batches, futures, strict=True):
        assert future.done()
        got = [str(reply) if isinstance(reply, ReplyError) else reply for reply in future.result()]
        assert got == batch


async def test_what_waits_fails_with_the_connection() -> None:
    """Nobody waits for replies that cannot come."""
    link, _ = linked()
    future = link.send(b"x", 1)
    link.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await future
    assert not link.usable
    with pytest.raises(ConnectionResetError):
        await link.send(b"x", 1)


async def test_bytes_that_are_no_replies_end_the_connection() -> None:
    """What cannot be read must not be guessed at."""
    link, wire = linked()
    link.send(b"x", 1).cancel()
    link.data_received(b"HTTP/1.1 400\r\n")
    assert wire.closed


def test_a_command_is_lengths_and_bytes() -> None:
    """RESP as Redis reads it."""
    assert command(b"AUTH", b"a b") == b"*2\r\n$4\r\nAUTH\r\n$3\r\na b\r\n"
