"""The gateway: only the public paths, its own errors as problem documents, nothing of the inside."""

import pytest

from tests.e2e.problem import check_problem
from tests.support.client import Client


@pytest.mark.parametrize(
    "path", ["/healthz/live", "/healthz/ready", "/metrics", "/api/v1/nothing", "/api/v1", "/docs", "/redoc", "/admin"]
)
async def test_only_public_paths_are_served(client: Client, path: str) -> None:
    """Everything else is not found, in the form of every other error."""
    check_problem(await client.http.get(path), 404, "not-found")


@pytest.mark.parametrize("path", ["/api/v1/scores/update", "/api/v1/auth/token"])
async def test_another_method_is_refused(client: Client, path: str) -> None:
    """GET where only POST is served."""
    check_problem(await client.http.get(path), 405, "method-not-allowed")


@pytest.mark.parametrize("path", ["/api/v1/../../metrics", "/api/v1/scoreboard/..%2f..%2f..%2fmetrics", "//metrics"])
async def test_tricks_with_paths_reach_nothing(client: Client, path: str) -> None:
    """Neither dots nor escaped slashes lead to what is not public."""
    answer = await client.http.get(client.url + path)
    assert answer.status_code in {400, 404}
    assert "podium_" not in answer.text


async def test_a_huge_body_is_refused_early(client: Client) -> None:
    """The gateway stops a body that no service would take."""
    answer = await client.http.post(
        "/api/v1/scores/update", content=b"x" * 1_000_000, headers={"content-type": "application/json"}
    )
    check_problem(answer, 413, "body-too-large")


async def test_the_trace_id_of_the_caller_is_kept(client: Client) -> None:
    """An error names the trace that the caller began (W3C Trace Context)."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    for path in ("/api/v1/nothing", "/api/v1/scoreboard?limit=0"):
        answer = await client.http.get(path, headers=headers)
        assert answer.json()["traceId"] == trace_id
