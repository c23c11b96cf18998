"""The way from a client to servers, which tests can cut, stall and lead elsewhere."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Link:
    """One connection: of the client, and of the server that was found for it."""

    writers: list[asyncio.StreamWriter]
    flows: asyncio.Event = field(default_factory=asyncio.Event)


class Network:
    """One TCP address on 127.0.0.1 before the ``ports`` of servers: the first that takes a connection gets it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.port = 0
        self.ports = list(ports)
        self.blocked: tuple[bytes, ...] = ()
        """What firewalls on the way do not let through: connections on which a client says it are ended."""
        self.heads: list[bytes] = []
        """First lines of requests and answers that passed."""
        self._cut = self._stalled = False
        self._links: set[_Link] = set()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._cut = True
        self.end()

    def stall(self) -> None:
        """Lose all bytes from now on, also those of connections made meanwhile; nobody is told."""
        self._stalled = True
        for link in self._links:
            link.flows.clear()

    def heal(self) -> None:
        """Let new connections through again; those that were stalled stay dead, as behind a router that forgot them."""
        self._cut = self._stalled = False

    def end(self) -> None:
        """End all connections."""
        for link in list(self._links):
            for writer in link.writers:
                writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        link = _Link([writer])
        self._links.add(link)
        try:
            if self._cut:
                return
            if not self._stalled:
                link.flows.set()
            upstream = await self._find()
            if upstream is None:
                return
            link.writers.append(upstream[1])
            up = asyncio.create_task(self._pump(link, reader, upstream[1], client=True))
            down = asyncio.create_task(self._pump(link, upstream[0], writer, client=False))
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        finally:
            self._links.discard(link)
            for each in link.writers:
                each.transport.abort()

    async def _find(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for port in self.ports:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, client: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await link.flows.wait()
                if client and any(word in data for word in self.blocked):
                    return
                if data.startswith((b"GET ", b"HTTP/")):
                    self.heads.append(data.partition(b"\r\n")[0])
                writer.write(data)
                await writer.drain()


@contextlib.asynccontextmanager
async def running_network(*ports: int) -> AsyncIterator[Network]:
    """A network inside the block."""
    network = Network(ports)
    server = await asyncio.start_server(network.serve, "127.0.0.1", 0)
    network.port = server.sockets[0].getsockname()[1]
    try:
        yield network
    finally:
        server.close()
        network.end()
