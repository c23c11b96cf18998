"""The way from 127.0.0.1 into a local cluster: a TCP proxy for the gateway and for pages.

Towards the gateway it speaks PROXY protocol version 2 (haproxy's proxy-protocol.txt), so that the gateway sees the
client's own address. Services are found by their names in the cluster's DNS, so one that was made anew is found again.

    python3 -m podium_dev.proxy CONFIGURATION
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import json
import resource
import secrets
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_AND_PROXY = 0x21
_TCP_OVER_IPV4 = 0x11
_ADDRESS_SECONDS = 2.0
"""How long an answer of the cluster's DNS is used."""
_DNS_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
_BACKLOG = 4096


@dataclass(frozen=True)
class Listener:
    """A port of 127.0.0.1 and the Service (DNS name, port) behind it."""

    port: int
    service: str
    service_port: int
    proxy_protocol: bool = False


@dataclass
class Resolver:
    """Addresses of Services from the cluster's DNS; while that does not answer, the last ones known."""

    server: str
    _known: dict[str, tuple[float, str]] = field(default_factory=dict)

    async def address(self, name: str) -> str:
        """The IPv4 address of `name`; raises OSError if it is unknown."""
        until, address = self._known.get(name, (0.0, ""))
        if time.monotonic() < until:
            return address
        try:
            address = await asyncio.wait_for(self._ask(name), _DNS_SECONDS)
        except (OSError, ValueError, TimeoutError):
            if not address:
                raise OSError(f"no address of {name}") from None
        self._known[name] = (time.monotonic() + _ADDRESS_SECONDS, address)
        return address

    async def _ask(self, name: str) -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        number = secrets.randbelow(65536)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Answer(answer), remote_addr=(self.server, 53))
        try:
            transport.sendto(dns_query(number, name))
            return first_address(await answer, number)
        finally:
            transport.close()


class _Answer(asyncio.DatagramProtocol):
    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


class _End(asyncio.Protocol):
    """One end of a proxied connection; what it receives goes to its peer, no faster than the peer takes it."""

    def __init__(self) -> None:
        self.peer: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        if self.peer is not None and self.peer.transport is not None and not self.peer.transport.is_closing():
            with contextlib.suppress(OSError):
                self.peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None and self.peer.transport is not None:
            if exc is None:
                self.peer.transport.close()
            else:
                self.peer.transport.abort()
        self.transport = None

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()


class _Client(_End):
    """The client's end: connects to the Service first, reading nothing meanwhile."""

    def __init__(self, listener: Listener, resolver: Resolver, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._listener = listener
        self._resolver = resolver
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            address = await self._resolver.address(self._listener.service)
            connecting = asyncio.get_running_loop().create_connection(_End, address, self._listener.service_port)
            _, server = await asyncio.wait_for(connecting, _CONNECT_SECONDS)
        except (OSError, TimeoutError):
            if self.transport is not None:
                self.transport.abort()
            return
        if self.transport is None:
            if server.transport is not None:
                server.transport.abort()
            return
        self.peer, server.peer = server, self
        if self._listener.proxy_protocol and server.transport is not None:
            client, local = self.transport.get_extra_info("peername"), self.transport.get_extra_info("sockname")
            server.transport.write(proxy_header(client, local))
        self.transport.resume_reading()


def proxy_header(client: tuple[str, int], server: tuple[str, int]) -> bytes:
    """The header of PROXY protocol version 2 for a TCP connection over IPv4."""
    addresses = ipaddress.IPv4Address(client[0]).packed + ipaddress.IPv4Address(server[0]).packed
    payload = addresses + struct.pack("!HH", client[1], server[1])
    return _SIGNATURE + struct.pack("!BBH", _VERSION_AND_PROXY, _TCP_OVER_IPV4, len(payload)) + payload


def dns_query(number: int, name: str) -> bytes:
    """A query for the address (A) of `name` (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\x00" + struct.pack("!HH", 1, 1)


def first_address(message: bytes, number: int) -> str:
    """The first IPv4 address of the answer to query `number`; raises ValueError if there is none."""
    try:
        found, flags, questions, answers = struct.unpack_from("!HHHH", message)
        if found != number or flags & 0x000F:
            raise ValueError("the name does not exist")
        offset = 12
        for _ in range(questions):
            offset = _after_name(message, offset) + 4
        for _ in range(answers):
            offset = _after_name(message, offset)
            kind, _, _, length = struct.unpack_from("!HHIH", message, offset)
            offset += 10
            if kind == 1 and length == 4:
                return str(ipaddress.IPv4Address(message[offset : offset + 4]))
            offset += length
    except (struct.error, IndexError) as error:
        raise ValueError("not a DNS message") from error
    raise ValueError("no address in the answer")


def _after_name(message: bytes, offset: int) -> int:
    while (length := message[offset]) != 0:
        if length & 0xC0:
            return offset + 2
        offset += 1 + length
    return offset + 1


async def serve(listeners: Sequence[Listener], dns_server: str) -> None:
    """Proxy until cancelled."""
    loop = asyncio.get_running_loop()
    resolver = Resolver(dns_server)
    tasks: set[asyncio.Task[None]] = set()
    for listener in listeners:

        def client(listener: Listener = listener) -> _Client:
            return _Client(listener, resolver, tasks)

        await loop.create_server(client, "127.0.0.1", listener.port, backlog=_BACKLOG)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve what the configuration file says."""
    configuration = json.loads(Path(sys.argv[1]).read_text())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    asyncio.run(serve([Listener(**listener) for listener in configuration["listeners"]], configuration["dns"]))


if __name__ == "__main__":
    main()
