"""Server-Sent Events: ``GET /api/v1/scoreboard/stream`` (HTML standard, section 9.2)."""

import asyncio
import time
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from podium.common.tokens import Claims
from podium.scoreboard.keeper import Keeper
from podium.scoreboard.representations import Published
from podium.scoreboard.watcher import Watcher

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",
}


class StreamWatcher(Watcher):
    """Hands the newest event to the task that writes the response; one that was not taken yet is replaced."""

    kind = "sse"

    def __init__(self) -> None:
        super().__init__(time.monotonic())
        self._event: bytes | None = None
        self._comment = False
        self._last: bytes | None = None
        self._ended = False
        self._changed = asyncio.Event()
        self.writing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return not self._ended

    def send(self, published: Published) -> None:
        self._event = published.event
        self._changed.set()

    def beat(self, heartbeat: bytes) -> None:
        # There is no answer to wait for: what the peer's kernel takes is its sign of life.
        self.last_frame = time.monotonic()
        self._comment = True
        self._changed.set()

    def close(self, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        self._last = b"retry: %d\n\n" % (retry_after_ms or 1000)
        self._ended = True
        self._changed.set()
        if self.busy_since is not None:
            self.abort()

    def abort(self) -> None:
        self._ended = True
        if self.writing is not None:
            self.writing.cancel()

    async def next_bytes(self) -> tuple[bytes, bool]:
        """What to write next, and whether more will come."""
        await self._changed.wait()
        self._changed.clear()
        event, comment = self._event, self._comment
        self._event, self._comment = None, False
        data = event or (b": heartbeat\n\n" if comment else b"")
        return (data, True) if not self._ended else (data + (self._last or b""), False)


class EventStream(Response):
    """A response that lasts as long as its watcher."""

    def __init__(
        self, keeper: Keeper, board: str, claims: Claims | None, agent: str, on_end: Callable[[], None]
    ) -> None:
        super().__init__(headers=HEADERS)
        self._keeper = keeper
        self._board = board
        self._claims = claims
        self._agent = agent
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write events until the client or the hub ends it."""
        try:
            await self._serve(receive, send)
        finally:
            self._on_end()

    async def _serve(self, receive: Receive, send: Send) -> None:
        watcher = StreamWatcher()
        watcher.agent = self._agent
        hub = self._keeper.hub
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write() -> None:
            more = True
            while more:
                data, more = await watcher.next_bytes()
                hub.blocked(watcher)  # until the transport has taken it
                await send({"type": "http.response.body", "body": data, "more_body": more})
                hub.drained(watcher)

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                continue

        watcher.writing = asyncio.create_task(write())
        gone = asyncio.create_task(until_gone())
        self._keeper.join(watcher, self._board)
        if self._claims is not None:
            self._keeper.authenticate(watcher, self._claims.sid, self._claims.exp)
        try:
            await asyncio.wait({watcher.writing, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._keeper.leave(watcher)
            for task in (watcher.writing, gone):
                task.cancel()
            await asyncio.gather(watcher.writing, gone, return_exceptions=True)
