"""One trace leads from the update to the push, on every pod; no token reaches a log."""

import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from tests.integration.scoreboard.clients import message, watching
from tests.integration.scoreboard.services import BOARDS, Issuer, running_scoreboard
from tests.integration.scoreboard.support import running_game, running_projector, until

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
PARENT_ID = 0x00F067AA0BA902B7
TRACEPARENT = f"00-{TRACE_ID:032x}-{PARENT_ID:016x}-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What is exported while a test runs."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    yield exporter
    exporter.shutdown()


async def test_one_trace_from_the_update_to_the_push_of_both_pods(
    spans: InMemorySpanExporter,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """``project score`` with Redis below it, and ``push top`` for each pod; shared work is linked, not a parent."""
    stores = (redis_settings, nats_settings, Issuer())
    async with (
        running_game(database_settings, redis_settings, nats_settings) as game,
        running_projector(database_settings, redis_settings, nats_settings, BOARDS),
        running_scoreboard(*stores),
        running_scoreboard(*stores),
    ):
        await game.score("ann", 10, trace=TRACEPARENT)

        def own(name: str) -> list[ReadableSpan]:
            return [
                span
                for span in spans.get_finished_spans()
                if span.name == name and span.context is not None and span.context.trace_id == TRACE_ID
            ]

        async def pushed() -> bool:
            return len(own("push top")) == 2

        await until(pushed, "both pods pushed")
        (projected,) = own("project score")
        (redis,) = own("EVALSHA apply")
        pushes = own("push top")
        assert projected.context is not None
        assert redis.parent is not None
        assert redis.parent.span_id == projected.context.span_id
        for span in (projected, *pushes):
            assert span.parent is not None
            assert span.parent.span_id == PARENT_ID
        shared = {span.context.span_id: span for span in spans.get_finished_spans() if span.context is not None}
        (batch,) = projected.links
        assert shared[batch.context.span_id].name == "project batch"
        assert shared[batch.context.span_id].links[0].context.trace_id == TRACE_ID
        for push in pushes:
            assert shared[push.links[0].context.span_id].name == "broadcast top"


async def test_no_token_is_logged(
    caplog: pytest.LogCaptureFixture,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """Not even with the log wide open."""
    issuer = Issuer()
    token = issuer.token("ann")
    with caplog.at_level(logging.DEBUG):
        async with (
            running_projector(database_settings, redis_settings, nats_settings, BOARDS),
            running_scoreboard(redis_settings, nats_settings, issuer) as (pod, _),
        ):
            logging.getLogger("websockets.client").setLevel(logging.INFO)  # this test's own side
            async with watching(pod, "podium.v1", f"bearer.{token}") as socket:
                await message(socket, "snapshot")
    assert token not in caplog.text
