"""The service as a pod runs it: its process, its documents, its traces."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from podium.scores.app import Settings, create_app
from tests.integration.scores.support import ACTIONS, AUDIENCE, ISSUER, MASTER, Scores, jwks, open_session, slug
from tests.support.apps import run_service
from tests.support.client import Update


async def test_the_process_serves_drains_and_ends(service_env: dict[str, str], tmp_path: Path) -> None:
    """``python -m podium.scores`` on the documented environment: ready, counts, ends on SIGTERM."""
    files = {"PODIUM_JWT_JWKS": jwks(), "PODIUM_SIGNING_MASTER": MASTER, "PODIUM_ACTIONS": json.dumps(ACTIONS)}
    env = {**service_env, "PODIUM_JWT_ISSUER": ISSUER, "PODIUM_JWT_AUDIENCE": AUDIENCE, "PODIUM_BOARDS": BOARDS_TEXT}
    for name, content in files.items():
        path = tmp_path / name.lower()
        path.write_text(content)
        env[f"{name}_FILE"] = str(path)
    async with run_service("podium.scores", env, tmp_path) as service, httpx.AsyncClient(base_url=service.url) as http:
        session = open_session()
        answer = await Scores(http).update(session)
        assert answer.status_code == httpx.codes.OK, answer.text
        ready = await http.get("/healthz/ready")
        assert ready.json() == {"status": "ok", "missing": [], "degraded": []}
        assert (await http.get("/healthz/live")).status_code == httpx.codes.OK
        metrics = (await http.get("/metrics")).text
        log = service.log.read_text()
    assert 'podium_score_updates_total{result="accepted"} 1.0' in metrics
    assert session.access_token not in log
    assert all(json.loads(line)["service"] == "scores" for line in log.splitlines())


BOARDS_TEXT = '[{"name":"default"},{"name":"best","operator":"Best"},{"name":"latest","operator":"Latest"}]'


def test_the_openapi_document_is_complete(settings: Settings) -> None:
    """OpenAPI 3.1, valid, with every answer of the contract's table."""
    document = create_app(settings).openapi()
    OpenAPIV31SpecValidator(document).validate()
    operation = document["paths"]["/api/v1/scores/update"]["post"]
    assert set(operation["responses"]) == {"200", "400", "401", "403", "413", "415", "422", "429", "503"}
    assert "`action-id-reused`" in operation["responses"]["422"]["description"]
    assert operation["security"] == [{"accessToken": ["scores:write"]}]
    assert "accessToken" in document["components"]["securitySchemes"]


async def test_other_paths_and_methods_are_problems(scores: Scores) -> None:
    """404 and 405 are problem documents, too."""
    assert slug(await scores.http.get("/nowhere")) == (404, "not-found")
    assert slug(await scores.http.get("/api/v1/scores/update")) == (405, "method-not-allowed")


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """All spans of this process."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return memory


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    """The spans of one test."""
    exporter.clear()
    return exporter


async def test_one_trace_leads_through_the_update(spans: InMemorySpanExporter, scores: Scores, database: Any) -> None:
    """The update's trace has server, nonce, commit, transaction and publish; the shared commit is linked both ways."""
    trace_id = "ab" * 16
    headers = {"traceparent": f"00-{trace_id}-{'cd' * 8}-01"}
    assert (await scores.send(open_session(), Update.of(), headers=headers)).status_code == httpx.codes.OK
    while await database.fetchval("SELECT count(*) FROM outbox"):
        await asyncio.sleep(0.01)
    mine = {span.name: span for span in spans.get_finished_spans() if id_of(span) == trace_id}
    assert set(mine) == {
        "POST /api/v1/scores/update",
        "SET nonce",
        "commit score",
        "postgres transaction",
        "publish score.updated",
    }
    (batch,) = [span for span in spans.get_finished_spans() if span.name == "commit batch"]
    commit = mine["commit score"]
    assert [link.context.span_id for link in batch.links] == [context_of(commit).span_id]
    assert [link.context.span_id for link in commit.links] == [context_of(batch).span_id]
    assert batch.parent is None
    for name in ("postgres transaction", "publish score.updated"):
        parent = mine[name].parent
        assert parent is not None
        assert parent.span_id == context_of(commit).span_id
    assert await database.fetchval("SELECT trace_id FROM action_log") == trace_id


async def test_an_unsampled_update_leaves_no_spans(spans: InMemorySpanExporter, scores: Scores) -> None:
    """The caller's decision not to record holds for the update's own trace."""
    headers = {"traceparent": f"00-{'ef' * 16}-{'cd' * 8}-00"}
    assert (await scores.send(open_session(), Update.of(), headers=headers)).status_code == httpx.codes.OK
    assert [span for span in spans.get_finished_spans() if id_of(span) == "ef" * 16] == []


def context_of(span: ReadableSpan) -> trace.SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def id_of(span: ReadableSpan) -> str:
    return f"{context_of(span).trace_id:032x}"
