"""The short way of the usual read: the top of a board, from memory, without FastAPI's machinery.

Only ``GET /api/v1/scoreboard`` in its usual spelling passes here, and only while its answer is in memory and nothing of
it is traced. Everything else (wrong queries, longer pages, other methods) goes on to the route in
``podium.scoreboard.routes`` as if nothing had been, so there is one place that says what is wrong with a request. Both
ways give the same bytes: a test holds them to it. Such a read is counted in the metrics, not written to the access log.
"""

import re
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from podium.common.metrics import HTTP_DURATION
from podium.common.telemetry import UNSAMPLED
from podium.scoreboard import caching
from podium.scoreboard.metrics import CACHE_HITS
from podium.scoreboard.reader import Held, Reader
from podium.scoreboard.representations import matches
from podium.scoreboard.routes import PATH
from podium.scoreboard.settings import CacheSettings

_QUERY: Final = re.compile(rb"(?:board=([a-z0-9-]{1,63}))?(?:(?:^|&)limit=([1-9][0-9]{0,2}))?")
"""What is understood here, limits to 999; a subset of what the route understands, in one spelling each."""

MAX_KNOWN_QUERIES: Final = 1024
"""Queries whose meaning is remembered; boards are few, and limits below a thousand."""


class _Answers:
    """The ready messages for one representation: in full, and as "not modified"."""

    __slots__ = ("body", "full", "held", "not_modified")

    def __init__(self, held: Held, board: str, cache: CacheSettings) -> None:
        headers = [
            (name.lower().encode(), value.encode()) for name, value in caching.ranking(cache, board, held.tag).items()
        ]
        size = (b"content-length", str(len(held.body)).encode())
        kind = (b"content-type", b"application/json")
        self.held = held
        self.full: Message = {"type": "http.response.start", "status": 200, "headers": [*headers, size, kind]}
        self.not_modified: Message = {"type": "http.response.start", "status": 304, "headers": headers}
        self.body: Message = {"type": "http.response.body", "body": held.body}


class LeanReads:
    """ASGI middleware, the outermost. ``own_traces``: whether requests without a trace of their own may start one."""

    def __init__(
        self, app: ASGIApp, *, reader: Callable[[], Reader | None], cache: CacheSettings, own_traces: bool
    ) -> None:
        self._app = app
        self._reader = reader
        self._cache = cache
        self._own_traces = own_traces
        self._queries: dict[bytes, tuple[str, int | None] | None] = {}
        self._answers: dict[bytes, _Answers] = {}
        self._full_seconds = HTTP_DURATION.labels("scoreboard", "GET", PATH, "200")
        self._not_modified_seconds = HTTP_DURATION.labels("scoreboard", "GET", PATH, "304")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        answers = self._find(scope["query_string"])
        validator = self._validator(scope) if answers is not None else None
        if answers is None or validator is None:
            await self._app(scope, receive, send)
        elif validator and matches(validator.decode("latin-1"), answers.held.tag):
            await send(answers.not_modified)
            await send({"type": "http.response.body", "body": b""})
            CACHE_HITS.inc()
            self._not_modified_seconds.observe(time.perf_counter() - started)
        else:
            await send(answers.full)
            await send(answers.body)
            CACHE_HITS.inc()
            self._full_seconds.observe(time.perf_counter() - started)

    def _find(self, query: bytes) -> _Answers | None:
        """The messages for a query that is understood and whose answer is in memory."""
        reader = self._reader()
        meaning = self._queries[query] if query in self._queries else self._understand(query)
        if reader is None or meaning is None:
            return None
        board, limit = meaning
        held = reader.in_memory(board, limit)
        if held is None:
            return None
        answers = self._answers.get(query)
        if answers is None or answers.held is not held:
            answers = self._answers[query] = _Answers(held, board, self._cache)
        return answers

    def _understand(self, query: bytes) -> tuple[str, int | None] | None:
        match = _QUERY.fullmatch(query)
        meaning = (
            ((match[1] or b"default").decode(), int(match[2]) if match[2] else None) if match is not None else None
        )
        if len(self._queries) >= MAX_KNOWN_QUERIES:
            self._queries.clear()
            self._answers.clear()
        self._queries[query] = meaning
        return meaning

    def _validator(self, scope: Scope) -> bytes | None:
        """``If-None-Match``, empty where there is none; None for a request that has to be looked at closely."""
        found, traced = b"", self._own_traces
        for name, value in scope["headers"]:
            if name == b"if-none-match":
                if found or not value:
                    return None
                found = value
            elif name == b"traceparent":
                traced = UNSAMPLED.fullmatch(value) is None
                if traced:
                    return None
        return None if traced else found
