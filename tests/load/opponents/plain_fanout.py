"""An opponent of ``make bench-fanout``: fan-out with FastAPI as one would write it first.

``python -m tests.load.opponents.plain_fanout``. A set of sockets, and for each snapshot that comes by NATS a loop with
``await websocket.send_text(text)``. uvicorn and its WebSocket library are as they come; only pings are as rare as
Podium's.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from nats.aio.msg import Msg

SUBJECT = "podium.top.default"
PING_SECONDS = 25.0

sockets: set[WebSocket] = set()


async def broadcast(message: Msg) -> None:
    """Send a snapshot to everyone, one after the other."""
    text = message.data.decode()
    for websocket in list(sockets):
        try:
            await websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError):  # it went away
            sockets.discard(websocket)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Listen to NATS while the process runs."""
    client = await nats.connect(
        os.environ["PODIUM_NATS_URL"],
        user=os.environ["PODIUM_NATS_USER"],
        password=os.environ["PODIUM_NATS_PASSWORD"],
    )
    await client.subscribe(SUBJECT, cb=broadcast)
    await client.flush()
    yield
    await client.close()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws/scoreboard")
async def watch(websocket: WebSocket) -> None:
    """Keep a socket until its client leaves."""
    await websocket.accept()
    sockets.add(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        sockets.discard(websocket)


@app.get("/healthz/ready")
async def ready() -> dict[str, str]:
    """Ready once it has started."""
    return {"status": "ready"}


if __name__ == "__main__":
    uvicorn.run(
        app,
        host=os.environ["PODIUM_HOST"],
        port=int(os.environ["PODIUM_PORT"]),
        loop="uvloop",
        http="httptools",
        ws_ping_interval=PING_SECONDS,
        access_log=False,
        log_level="warning",
    )
