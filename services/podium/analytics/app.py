"""Composition of the analytics service."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI

from podium.analytics import routes, routes_admin
from podium.analytics.archive import Archive
from podium.analytics.background import Background
from podium.analytics.boards import BoardStore
from podium.analytics.consumer import Consumer
from podium.analytics.context import AnalyticsContext
from podium.analytics.reports import ReportStore
from podium.analytics.seasons import Seasons
from podium.analytics.settings import AnalyticsSettings
from podium.analytics.store import AnalyticsStore, BoardSpec
from podium.common.application import make_app
from podium.common.bus import Bus, connect
from podium.common.database import make_engine
from podium.common.health import Health
from podium.common.rules import parse_boards, parse_tiers
from podium.common.security_state import SecurityState
from podium.common.settings import DatabaseSettings, JwtSettings, NatsSettings, ProcessSettings, RulesSettings
from podium.common.tokens import make_verifier

_log = structlog.get_logger("podium.analytics")

POOL_SIZE: Final = 5
"""Connections to the primary, and to the read replicas."""


def create_app(
    *,
    process: ProcessSettings | None = None,
    database: DatabaseSettings | None = None,
    nats: NatsSettings | None = None,
    jwt: JwtSettings | None = None,
    rules: RulesSettings | None = None,
    analytics: AnalyticsSettings | None = None,
    health: Health | None = None,
) -> FastAPI:
    """The app; settings left out come from the environment. Raises ValueError for rules that cannot be read."""
    process, nats, rules = process or ProcessSettings(), nats or NatsSettings(), rules or RulesSettings()
    database, health = database or DatabaseSettings(), health or Health()
    interval = (analytics or AnalyticsSettings()).interval_seconds
    engine = make_engine(database, pool_size=POOL_SIZE)
    reader = make_engine(database, read=True, pool_size=POOL_SIZE)
    connection: list[Bus] = []

    def bus() -> Bus | None:
        return connection[0] if connection else None

    configured = parse_boards(rules.boards)
    boards = tuple(BoardSpec(board.name, board.top) for board in configured)
    board_store = BoardStore(engine)
    state, store = SecurityState(), AnalyticsStore(engine, interval)
    reports = ReportStore(reader, parse_tiers(rules.tiers), interval)
    seasons = Seasons(board_store, Archive(engine), configured, bus)
    consumer, background = Consumer(store), Background(store, reports, seasons, boards)
    loops: list[asyncio.Task[None]] = []

    async def with_nats() -> None:
        connection.append(await connect(nats, f"analytics-{process.pod}"))
        async with asyncio.TaskGroup() as group:
            group.create_task(state.run(connection[0]))
            group.create_task(consumer.run(connection[0]))
            group.create_task(background.gauges(connection[0]))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        work: list[Coroutine[Any, Any, None]] = [
            with_nats(), background.probe(), background.close_windows(), background.forget(),
            background.reset_boards(), background.archive_seasons(),
        ]  # fmt: skip
        for one in work:
            loops.append(asyncio.create_task(one))
            loops[-1].add_done_callback(_report_death)
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            if connection:
                await connection[0].close()
            await engine.dispose()
            await reader.dispose()

    health.require("postgres", lambda: background.postgres)
    health.require("nats", lambda: state.loaded.is_set() and consumer.attached)
    health.require_alive("background work", lambda: not any(loop.done() for loop in loops))

    app = make_app("analytics", "Business metrics, reports, dead letters and boards.", health, lifespan)
    app.state.context = AnalyticsContext(boards, board_store, reports, bus)
    app.state.verifier = make_verifier(jwt or JwtSettings(), state.is_revoked)
    app.include_router(routes.router)
    app.include_router(routes_admin.router)
    return app


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("background work died, the pod will be restarted", exc_info=task.exception())
