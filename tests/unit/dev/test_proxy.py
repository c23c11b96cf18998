"""The proxy from 127.0.0.1 into the cluster: its wire formats, and bytes through it on real sockets."""

import asyncio
import struct

import pytest

from podium_dev.proxy import Listener, Resolver, _Client, dns_query, first_address, proxy_header


def test_proxy_header_is_version_2() -> None:
    """Signature, version and command, family, length, addresses and ports, as proxy-protocol.txt has them."""
    header = proxy_header(("127.0.0.1", 40000), ("127.0.0.2", 80))
    assert header == bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c 7f000001 7f000002 9c40 0050")


def test_dns_answer_is_understood() -> None:
    """The first address is taken, also behind a compressed name and an alias."""
    query = dns_query(7, "a.example")
    alias = b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 5, 2) + b"\xc0\x0c"
    address = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + bytes([10, 0, 0, 9])
    message = struct.pack("!HHHHHH", 7, 0x8180, 1, 2, 0, 0) + query[12:] + alias + address
    assert first_address(message, 7) == "10.0.0.9"


@pytest.mark.parametrize(
    "message", [b"", b"\x00\x07\x81\x83" + bytes(8), b"\x00\x08" + bytes(10), b"\x00\x07\x81\x80\x00\x01" + bytes(6)]
)
def test_other_answers_are_refused(message: bytes) -> None:
    """Truncated answers, unknown names, foreign numbers and empty answers are errors, never an address."""
    with pytest.raises(ValueError, match=r"DNS|name|address"):
        first_address(message, 7)


async def test_bytes_pass_in_both_directions() -> None:
    """The server first sees the header with the client's address, then what the client sent; the answer comes back."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(28)
        writer.write(header[16:20] + (await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    resolver = Resolver("127.0.0.1")
    resolver._known["gateway"] = (float("inf"), "127.0.0.1")
    listener = Listener(0, "gateway", server.sockets[0].getsockname()[1], proxy_protocol=True)
    tasks: set[asyncio.Task[None]] = set()
    proxy = await asyncio.get_running_loop().create_server(lambda: _Client(listener, resolver, tasks), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*proxy.sockets[0].getsockname())
    payload = b"hello" * 100_000
    writer.write(payload)
    writer.write_eof()
    assert await reader.read() == bytes([127, 0, 0, 1]) + payload.upper()
    writer.close()
    proxy.close()
    server.close()
