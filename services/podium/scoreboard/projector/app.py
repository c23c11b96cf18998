"""The projector as a process: its loops, and an HTTP port for health and metrics only."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import FastAPI
from nats.aio.msg import Msg
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from podium.common.application import make_app
from podium.common.bus import OUTAGE, Bus, connect
from podium.common.health import Health
from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable
from podium.common.redis import make_redis
from podium.common.rules import parse_boards
from podium.common.settings import DatabaseSettings, NatsSettings, ProcessSettings, RedisSettings, RulesSettings
from podium.scoreboard import metrics
from podium.scoreboard.audit_store import AuditStore
from podium.scoreboard.projector.boards import Boards
from podium.scoreboard.projector.consumer import Consumer
from podium.scoreboard.projector.drift import DriftCheck, Pipeline
from podium.scoreboard.projector.publisher import Publisher
from podium.scoreboard.projector.purge import purging
from podium.scoreboard.projector.rebuild import Rebuilder
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.settings import ProjectionSettings, PurgeSettings
from podium.scoreboard.store import RankingStore

LOOK_SECONDS = 1.0
"""Time between two looks at the boards."""

CHECKS_PER_PERIOD = 4
"""How often a projector looks, within the time between two drift checks, whether one is due."""

STUCK_SECONDS = 120.0
"""A consumer loop that has not gone round for so long is dead: a batch's time-outs add up to far less."""

REBUILD_SUBJECT = "podium.rebuild.*"
"""Core NATS: ``podium.rebuild.<board>`` asks one projector to build the board's ranking anew."""

_log = structlog.get_logger("podium.projector")


@dataclass
class ProjectorSettings:
    """The groups of settings a projector needs."""

    process: ProcessSettings = field(default_factory=ProcessSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    nats: NatsSettings = field(default_factory=NatsSettings)
    rules: RulesSettings = field(default_factory=RulesSettings)
    projection: ProjectionSettings = field(default_factory=ProjectionSettings)
    purge: PurgeSettings = field(default_factory=PurgeSettings)


class Projector:
    """The loops of one projector."""

    def __init__(self, settings: ProjectorSettings) -> None:
        self._settings = settings
        self._configured = {board.name: board for board in parse_boards(settings.rules.boards)}
        self._boards: Boards | None = None
        self._consumer: Consumer | None = None

    @property
    def boards(self) -> Boards:
        """The boards, once ``run`` has begun."""
        assert self._boards is not None
        return self._boards

    def ready(self) -> bool:
        """Whether the event stream is bound and every board has a ranking."""
        return bool(self._consumer and self._consumer.bound and self._boards and not self._boards.missing())

    def alive(self) -> bool:
        """Whether the consumer still goes round (or has not begun)."""
        return self._consumer is None or time.monotonic() - self._consumer.beat < STUCK_SECONDS

    async def run(self) -> None:
        """Project until cancelled; stores that are away are waited for."""
        settings = self._settings
        identity = f"podium/{settings.process.namespace}/{settings.process.name}"
        redis = make_redis(settings.redis)
        source = ScoreSource(settings.database)
        bus = await connect(settings.nats, f"podium-projector {settings.process.pod}")
        try:
            store = RankingStore(redis)
            async with purging(settings.purge, identity, store.claim_purge) as purge:
                await self._project(bus, redis, source, store, Publisher(bus, store, purge))
        finally:
            await bus.close()
            await source.close()
            await redis.aclose()

    async def _project(
        self, bus: Bus, redis: RedisCluster, source: ScoreSource, store: RankingStore, publisher: Publisher
    ) -> None:
        writer = f"{self._settings.process.pod}-{secrets.token_hex(4)}"
        self._boards = boards = Boards(
            self._configured,
            store,
            source,
            publisher,
            Rebuilder(source, store, writer),
            DriftCheck(source, AuditStore(redis), Pipeline(source, bus).passed),
            writer,
        )
        self._consumer = Consumer(bus, boards)
        try:
            async with asyncio.TaskGroup() as group:
                loops: list[Coroutine[Any, Any, None]] = [
                    self._look(boards, bus),
                    self._check_drift(boards),
                    self._listen(boards, bus),
                    publisher.run(),
                    self._consumer.run(),
                ]
                for loop in loops:
                    group.create_task(loop)
        finally:
            await boards.close()
            await publisher.settle()

    async def _look(self, boards: Boards, bus: Bus) -> None:
        while True:
            heed_cancellation()
            try:
                await boards.look_after()
                info = await bus.jetstream.consumer_info("PODIUM_EVENTS", "projector")
                metrics.PROJECTOR_PENDING.set(info.num_pending or 0)
            except (*OUTAGE, StoreUnavailable) as error:
                _log.warning("the boards cannot be looked after", error=str(error) or type(error).__name__)
            heed_cancellation()
            await asyncio.sleep(LOOK_SECONDS)

    async def _check_drift(self, boards: Boards) -> None:
        seconds = self._settings.projection.drift_check_seconds
        while True:
            heed_cancellation()
            await asyncio.sleep(seconds / CHECKS_PER_PERIOD)
            for board in self._configured:
                try:
                    await boards.check_drift(board, seconds)
                except StoreUnavailable as error:
                    _log.warning("drift cannot be checked", error=str(error))
                except ResponseError as error:  # what is wrong with a board must not keep updates from the others
                    _log.error("drift cannot be checked", board=board, error=str(error))

    async def _listen(self, boards: Boards, bus: Bus) -> None:
        async def asked(message: Msg) -> None:
            boards.ask_rebuild(message.subject.rpartition(".")[2], "requested")

        subscription = await bus.client.subscribe(REBUILD_SUBJECT, queue="projector", cb=asked)
        try:
            await asyncio.Event().wait()
        finally:
            with suppress(*OUTAGE):
                await subscription.unsubscribe()


def _report(task: asyncio.Task[None]) -> None:
    """Say why the projector ended by itself; liveness does the rest."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the projector has ended", exc_info=error)


def create_app(settings: ProjectorSettings) -> FastAPI:
    """The app: health and metrics, with the projector running for as long as it does."""
    projector = Projector(settings)
    health = Health()
    health.require("projection", projector.ready)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(projector.run(), name="projector")
        task.add_done_callback(_report)
        health.require_alive("projector", lambda: not task.done() and projector.alive())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return make_app("projector", "Health and metrics of a projector.", health, lifespan, openapi_url=None)
