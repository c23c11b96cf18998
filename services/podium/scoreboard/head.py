"""HEAD on everything that GET reads (RFC 9110, section 9.3.2): the same headers, no content."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

LIVE: Final = frozenset({"/api/v1/scoreboard/stream", "/ws/scoreboard"})
"""Paths whose answers do not end; HEAD is not allowed there."""


class HeadAsGet:
    """Lets GET answer a HEAD. The server leaves out the content, for its own scope still says HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"] in LIVE:
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            scope.update({**asked, "method": "HEAD"})  # the route that was found, for logs and spans
