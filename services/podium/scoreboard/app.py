"""Composition of the scoreboard service: what there is, who needs whom, and in which order it starts and stops."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import FastAPI, WebSocket
from starlette.middleware import Middleware

from podium.common.application import make_app
from podium.common.bus import Bus, connect
from podium.common.database import make_engine
from podium.common.health import Health
from podium.common.redis import OUTAGE, make_redis
from podium.common.rules import parse_boards, parse_tiers
from podium.common.security_state import SecurityState
from podium.common.settings import (
    DatabaseSettings,
    JwtSettings,
    NatsSettings,
    ProcessSettings,
    RedisSettings,
    RulesSettings,
    TelemetrySettings,
)
from podium.common.tokens import TokenVerifier, make_verifier
from podium.scoreboard import asyncapi, handshake, pages, routes_seasons
from podium.scoreboard.capacity import connections_at_most
from podium.scoreboard.domain import Tops, without
from podium.scoreboard.feed import Feed
from podium.scoreboard.head import HeadAsGet
from podium.scoreboard.hub import Hub
from podium.scoreboard.keeper import Keeper
from podium.scoreboard.lean import LeanReads
from podium.scoreboard.lease_store import LeaseStore
from podium.scoreboard.leases import Limiter
from podium.scoreboard.reader import Reader
from podium.scoreboard.routes import make_router
from podium.scoreboard.seasons import SeasonReader
from podium.scoreboard.settings import CacheSettings, WatchSettings
from podium.scoreboard.store import RankingStore
from podium.scoreboard.watch_protocol import STATE, LeanHandshakes
from podium.scoreboard.websocket import Gateway, WebSocketEndpoint

ENDPOINT_REMOVAL_SECONDS = 1.0
"""How long after readiness went off the first watcher is sent away, so that it does not come back to this pod."""

ARCHIVE_CONNECTIONS = 2
"""Connections to the read replicas at most, made when an ended season is first asked for."""

_log = structlog.get_logger("podium.scoreboard")


@dataclass(frozen=True)
class Settings:
    """All settings of this process, from the environment unless given."""

    process: ProcessSettings = field(default_factory=ProcessSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    nats: NatsSettings = field(default_factory=NatsSettings)
    jwt: JwtSettings = field(default_factory=JwtSettings)
    rules: RulesSettings = field(default_factory=RulesSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)


class Runtime:
    """What lives from start to stop of the process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.board_tops = {board.name: board.top for board in parse_boards(settings.rules.boards)}
        self.tops = Tops()
        watch = settings.watch
        self.hub = Hub(tick=watch.ws_tick_ms / 1000)
        self.keeper = Keeper(self.hub, heartbeat=watch.ws_heartbeat_seconds, slow=watch.ws_slow_seconds)
        self.security = SecurityState(on_revoked=self.keeper.revoke, on_restricted=self.revise_tops)
        self.verifier: TokenVerifier = make_verifier(settings.jwt, self.security.is_revoked)
        self.reader: Reader | None = None
        self.seasons: SeasonReader | None = None
        self.gateway: Gateway | None = None
        self.endpoint: WebSocketEndpoint | None = None
        self.feed: Feed | None = None
        self.tasks: Sequence[asyncio.Task[None]] = ()

    def register(self, health: Health) -> None:
        """Readiness wants each store once and every board's top.

        A store that is lost later leaves the pod ready: it still serves what it has, and every other pod is in the same
        state. Readiness names it as degraded, and the metrics and the log say so.
        """
        health.require("redis", lambda: self.feed is not None and self.feed.redis_reached)
        health.require("nats", lambda: self.feed is not None and self.feed.nats_reached)
        health.require("security-state", self.security.loaded.is_set)
        for board in self.board_tops:
            health.require(f"board {board}", lambda board=board: self.tops.get(board) is not None)  # type: ignore[misc]
        health.admit("redis", lambda: self.feed is not None and self.feed.redis_away)
        health.admit("nats", lambda: self.feed is not None and self.feed.nats_away)
        health.require_alive("tasks", lambda: not any(task.done() for task in self.tasks))

    def revise_tops(self) -> None:
        """Show new watchers nobody who is banned or hidden, also while the next snapshot has to wait for Redis."""
        for board in self.board_tops:
            snapshot = self.tops.get(board)
            if snapshot is not None:
                self.hub.revise(without(snapshot, lambda user_id: self.security.restriction(user_id) is not None))

    def default_board(self) -> str:
        """The board that watchers get at once: ``default``, or the first where there is none of that name."""
        return "default" if "default" in self.board_tops else next(iter(self.board_tops))

    async def follow_nats(self, feed: Feed) -> None:
        """Connect to NATS, however long it takes; then watch tops and revocations for ever."""
        async with await self._connect() as bus:
            await feed.listen(bus)
            await self.security.run(bus)

    async def _connect(self) -> Bus:
        return await connect(self.settings.nats, f"scoreboard-{self.settings.process.pod}")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything runs inside the block."""
        settings = self.settings
        redis = make_redis(settings.redis, retries=1)
        store = RankingStore(redis)
        leases = LeaseStore(redis, settings.redis.password.get_secret_value() or None)
        limiter = Limiter(
            leases,
            f"{settings.process.pod}-{secrets.token_hex(4)}",
            per_user=settings.watch.max_connections_per_user,
            per_ip=settings.watch.max_connections_per_ip,
        )
        self.feed = feed = Feed(list(self.board_tops), store, self.tops, self.hub)
        engine = make_engine(settings.database, read=True, pool_size=ARCHIVE_CONNECTIONS)
        self.seasons = SeasonReader(self.board_tops, engine)
        self.reader = Reader(self.board_tops, parse_tiers(settings.rules.tiers), self.tops, store, self.security)
        most = connections_at_most(settings.watch.max_connections)
        self.gateway = Gateway(self.keeper, self.verifier, limiter, most)
        self.endpoint = WebSocketEndpoint(
            self.gateway, frozenset(self.board_tops), self.default_board(), settings.watch.ws_max_message_bytes
        )
        loops: dict[str, Coroutine[Any, Any, None]] = {
            "broadcast": self.hub.broadcast_loop(),
            "keep": self.keeper.run(),
            "read": feed.read_loop(),
            "renew": limiter.renew_loop(),
            "nats": self.follow_nats(feed),
        }
        self.tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
        for task in self.tasks:
            task.add_done_callback(_report)
        try:
            yield
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await self.endpoint.close()
            await leases.close()
            with suppress(*OUTAGE):
                await redis.aclose()
            await engine.dispose()


def _report(task: asyncio.Task[None]) -> None:
    """A loop that ends by itself is a fault: say why; liveness does the rest."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a loop has ended", loop=task.get_name(), exc_info=error)


async def drain(app: FastAPI, health: Health, seconds: float, per_second: float) -> None:
    """Go out of the Service first, then send ``per_second`` watchers away in a second, all within ``seconds``."""
    health.draining = True
    grace = min(ENDPOINT_REMOVAL_SECONDS, seconds / 4)
    await asyncio.sleep(grace)
    await app.state.runtime.keeper.drain(max(0.0, seconds - 2 * grace), per_second)
    await asyncio.sleep(grace)  # the last close frames are answered


def create_app(settings: Settings | None = None, health: Health | None = None) -> FastAPI:
    """The ASGI app. Raises ValueError for settings that cannot work; stores may still be away."""
    settings = settings or Settings()
    health = health or Health()
    runtime = Runtime(settings)
    runtime.register(health)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with runtime.running():
            assert runtime.endpoint is not None
            yield {STATE: LeanHandshakes(runtime.endpoint, own_traces=settings.telemetry.records_own_traces)}

    app = make_app("scoreboard", "The ranking: reads, live streams, WebSocket.", health, lifespan, openapi_url=None)
    app.state.runtime = runtime

    def reader() -> Reader:
        assert runtime.reader is not None
        return runtime.reader

    def seasons() -> SeasonReader:
        assert runtime.seasons is not None
        return runtime.seasons

    def gateway() -> Gateway:
        assert runtime.gateway is not None
        return runtime.gateway

    @app.websocket(handshake.PATH)
    async def watch(websocket: WebSocket) -> None:
        assert runtime.endpoint is not None
        await runtime.endpoint(websocket)

    app.include_router(make_router(settings.cache, reader, gateway))
    app.include_router(routes_seasons.make_router(settings.cache, reader, seasons))
    app.user_middleware.append(Middleware(HeadAsGet))  # innermost, so that logs and spans say HEAD
    app.add_middleware(  # outermost
        LeanReads,
        reader=lambda: runtime.reader,
        cache=settings.cache,
        own_traces=settings.telemetry.records_own_traces,
    )
    pages.install(app, lambda: asyncapi.describe(settings.watch), settings.watch.ws_heartbeat_seconds)
    return app
