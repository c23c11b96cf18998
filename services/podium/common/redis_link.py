"""One connection to one Redis node for many small commands at once: written together, their replies read together.

The client library spends some 40 µs of processor time on each command, which is as much as all else that an update or
a handshake needs; here a batch's commands are one write and its usual replies one comparison. What is out of the
ordinary (redirections, lost connections, nodes that moved) is left to the library by those who use this.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TypeAlias, cast

NIL = b"$-1\r\n"
"""RESP2's null bulk string."""


class ReplyError(Exception):
    """A reply that is an error, or nothing that was asked for."""


Reply: TypeAlias = "bytes | int | ReplyError | None"
Replies: TypeAlias = "Sequence[Reply]"


class _Incomplete(Exception):
    """The rest of a reply has not come yet."""


class RedisLink(asyncio.Protocol):
    """Replies come in the order of commands; all that is waiting fails when the connection goes."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: deque[tuple[int, asyncio.Future[Replies]]] = deque()

    @classmethod
    async def open(cls, host: str, port: int, password: str | None) -> "RedisLink":
        """Connect and authenticate. Raises OSError or ReplyError."""
        _, link = await asyncio.get_running_loop().create_connection(cls, host, port)
        try:
            if password is not None:
                (reply,) = await link.send(command(b"AUTH", password.encode()), 1)
                if reply != b"OK":
                    raise ReplyError("the node refuses this password")
        except BaseException:
            link.close()
            raise
        return link

    @property
    def usable(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, commands: bytes, count: int) -> "asyncio.Future[Replies]":
        """Write ``count`` commands; the future gives a reply for each, or raises ConnectionError."""
        future: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(ConnectionResetError("the connection is closed"))
            return future
        self._waiting.append((count, future))
        self._transport.write(commands)
        return future

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionResetError("the connection was lost"))
                future.exception()  # seen: who sent it may have given up

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._waiting:
            count, future = self._waiting[0]
            usual = NIL * count
            replies: Replies
            if self._buffer.startswith(usual):
                replies, end = [None] * count, len(usual)
            else:
                try:
                    replies, end = _replies(self._buffer, count)
                except _Incomplete:
                    return
                except ReplyError:
                    self.close()
                    return
            self._buffer = self._buffer[end:]
            self._waiting.popleft()
            if not future.done():
                future.set_result(replies)


def command(*parts: bytes) -> bytes:
    """A command in Redis' serialization protocol."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _replies(data: bytes, count: int) -> tuple[list[Reply], int]:
    """The first ``count`` replies and where they end. ReplyError for bytes that are no such replies."""
    replies: list[Reply] = []
    position = 0
    for _ in range(count):
        end = data.find(b"\r\n", position)
        if end < 0:
            raise _Incomplete
        kind, text = data[position : position + 1], data[position + 1 : end]
        position = end + 2
        if kind == b"+":
            replies.append(text)
        elif kind == b":" and text.removeprefix(b"-").isdigit():
            replies.append(int(text))
        elif kind == b"-":
            replies.append(ReplyError(text.decode("utf-8", "replace")))
        elif kind == b"$" and text == b"-1":
            replies.append(None)
        elif kind == b"$" and text.isdigit():
            length = int(text)
            if len(data) < position + length + 2:
                raise _Incomplete
            replies.append(data[position : position + length])
            position += length + 2
        else:
            raise ReplyError("a reply that no command here has")
    return replies, position
