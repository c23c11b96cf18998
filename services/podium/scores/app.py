"""Composition of the scores service: what there is, who needs whom, and in which order it starts and stops."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import FastAPI

from podium.common.application import make_app
from podium.common.bus import Bus, connect
from podium.common.health import Health
from podium.common.redis import OUTAGE, make_redis
from podium.common.rules import parse_actions, parse_boards, parse_tiers
from podium.common.security_events import SecurityEvents
from podium.common.security_state import SecurityState
from podium.common.settings import (
    DatabaseSettings,
    JwtSettings,
    NatsSettings,
    ProcessSettings,
    RedisSettings,
    RulesSettings,
    SigningSettings,
    TelemetrySettings,
)
from podium.common.signing import SigningKeys
from podium.common.tokens import make_verifier
from podium.scores.batcher import MAX_IN_FLIGHT, Batcher
from podium.scores.committer import Committer, Settled
from podium.scores.domain import Update
from podium.scores.domain_rules import Rules
from podium.scores.gate import Gate
from podium.scores.lean import Recognizer
from podium.scores.nonces import NonceStore
from podium.scores.openapi import document_security
from podium.scores.outbox import Outbox
from podium.scores.pool import open_pool
from podium.scores.protocol import STATE, LeanUpdates
from podium.scores.routes import ScoreUpdates, make_router
from podium.scores.settings import ScoresSettings
from podium.scores.store import OutboxStore, ScoreStore

_log = structlog.get_logger("podium.scores")


@dataclass(frozen=True)
class Settings:
    """All settings of this process, from the environment unless given."""

    process: ProcessSettings = field(default_factory=ProcessSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    nats: NatsSettings = field(default_factory=NatsSettings)
    jwt: JwtSettings = field(default_factory=JwtSettings)
    signing: SigningSettings = field(default_factory=SigningSettings)
    rules: RulesSettings = field(default_factory=RulesSettings)
    scores: ScoresSettings = field(default_factory=ScoresSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)


def make_rules(settings: Settings) -> Rules:
    """The compiled rules. ValueError for rules that cannot work."""
    return Rules(
        parse_boards(settings.rules.boards),
        parse_actions(settings.rules.actions),
        parse_tiers(settings.rules.tiers),
        settings.scores.updates_per_user_per_minute,
    )


class _Runtime:
    """What lives from start to stop of the process."""

    def __init__(self) -> None:
        self.bus: Bus | None = None
        self.security = SecurityState()
        self.outbox: Outbox | None = None
        self.tasks: Sequence[asyncio.Task[None]] = ()

    def register(self, health: Health) -> None:
        """Readiness wants each of these once: afterwards an outage is answered, not hidden behind a missing pod."""
        health.require("postgres", lambda: self.outbox is not None and self.outbox.store_reached)
        health.require("security-state", self.security.loaded.is_set)
        health.require_alive("outbox", lambda: self.outbox is None or self.outbox.alive)
        health.require_alive("tasks", lambda: not any(task.done() for task in self.tasks))

    async def follow_security(self, settings: Settings) -> None:
        """Connect to NATS, however long it takes, and watch revocations and restrictions for ever."""
        self.bus = await connect(settings.nats, f"scores-{settings.process.pod}")
        await self.security.run(self.bus)


def create_app(settings: Settings | None = None, health: Health | None = None) -> FastAPI:
    """The ASGI app. Raises ValueError for settings that cannot work; stores may still be away."""
    settings = settings or Settings()
    health = health or Health()
    runtime = _Runtime()
    runtime.register(health)
    rules = make_rules(settings)
    keys = SigningKeys.parse(settings.signing.master.get_secret_value(), settings.jwt.issuer)
    verifier = make_verifier(settings.jwt, runtime.security.is_revoked)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # One connection for each batch in flight, one for the relay, one for the deletion of what was sent.
        pool = await open_pool(settings.database, MAX_IN_FLIGHT + 2)
        redis = make_redis(settings.redis, retries=1)
        outbox = Outbox(OutboxStore(pool), lambda: runtime.bus)
        nonces = NonceStore(redis, settings.redis.password.get_secret_value() or None)
        committer = Committer(ScoreStore(pool, rules), outbox, nonces)
        batcher: Batcher[Update, Settled] = Batcher(committer.commit)
        events = SecurityEvents(lambda: runtime.bus)
        gate = Gate(
            verifier,
            keys,
            runtime.security,
            nonces,
            events,
            signing_required=settings.scores.request_signing == "Required",
        )
        app.state.score_updates = ScoreUpdates(gate, rules, batcher)
        recognizer = Recognizer(verifier, keys, runtime.security, rules, samples=settings.telemetry.records_own_traces)
        runtime.outbox = outbox
        batcher.start()
        outbox.start()
        runtime.tasks = (
            asyncio.create_task(events.run(), name="security-events"),
            asyncio.create_task(runtime.follow_security(settings), name="security-state"),
        )
        await nonces.warm_up()
        try:
            yield {STATE: LeanUpdates(recognizer, rules, batcher, events)}
        finally:
            await batcher.close()
            await nonces.close()
            await outbox.close()
            for task in runtime.tasks:
                task.cancel()
            for task in runtime.tasks:
                with suppress(asyncio.CancelledError):
                    await task
            if runtime.bus is not None:
                await runtime.bus.close()
            with suppress(*OUTAGE):
                await redis.aclose()
            pool.terminate()

    app = make_app("scores", "Signed score updates.", health, lifespan)
    app.include_router(make_router(lambda: app.state.score_updates))
    document_security(app)
    return app
