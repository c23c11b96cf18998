"""The live page and the published descriptions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from podium.common.problems import Problem
from podium.scoreboard.representations import entity_tag, matches

STATIC: Final = Path(__file__).parent / "static"

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Only our own files, nothing inline, no frames. Files are validated by ETag each time, so a roll-out shows at once."""


_HEARTBEAT: Final = 'data-heartbeat-ms="25000"'
"""Where the page says how often the server gives a sign of life: what is silent for two of these is lost."""


class _Assets(StaticFiles):
    """Static files with the page's headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        scope["podium.route"] = "/assets"
        await super().__call__(scope, receive, with_headers)


def page(heartbeat_seconds: float) -> bytes:
    """The live page for a server with such heartbeats."""
    text = (STATIC / "index.html").read_text()
    assert _HEARTBEAT in text
    return text.replace(_HEARTBEAT, f'data-heartbeat-ms="{heartbeat_seconds * 1000:g}"').encode()


def install(app: FastAPI, asyncapi: Callable[[], dict[str, Any]], heartbeat_seconds: float) -> None:
    """Serve ``/``, ``/assets/*``, ``/openapi.json`` and ``/asyncapi.json``; not part of the OpenAPI description."""
    router = APIRouter(include_in_schema=False)
    html = page(heartbeat_seconds)
    headers = {**SECURITY_HEADERS, "ETag": entity_tag(html)}

    @router.get("/")
    async def index(request: Request) -> Response:
        if matches(request.headers.get("if-none-match"), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return HTMLResponse(html, headers=headers)

    @router.get("/openapi.json")
    async def openapi_document() -> Response:
        file = STATIC / "openapi.json"
        if not file.is_file():
            raise Problem("not-found", 404, "this build has no OpenAPI description")
        return FileResponse(file, media_type="application/json", headers={"Cache-Control": "no-cache"})

    @router.get("/asyncapi.json")
    async def asyncapi_document() -> Response:
        return JSONResponse(asyncapi(), headers={"Cache-Control": "no-cache"})

    @router.get("/ws/scoreboard")
    async def not_upgraded() -> Response:
        raise Problem("upgrade-required", 426, "this is a WebSocket", headers={"Upgrade": "websocket"})

    app.include_router(router)
    app.mount("/assets", _Assets(directory=STATIC / "assets", check_dir=False), name="assets")
