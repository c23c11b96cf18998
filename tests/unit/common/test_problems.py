"""Every error is an RFC 9457 problem document."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient

from podium.common import problems
from podium.common.problems import Problem, StoreUnavailable


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    problems.install(app)

    @app.get("/refused")
    async def refused() -> None:
        raise Problem("unknown-action", 422, "no action jump")

    @app.get("/away/{store}")
    async def away(store: str) -> None:
        raise StoreUnavailable(store)

    @app.get("/limited")
    async def limited() -> None:
        raise problems.rate_limited("slow down", policy="user", limit=10, window=60, retry_after=2.2)

    @app.get("/number")
    async def number(n: int = Query()) -> int:
        return n

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a detail that must not leave the process")

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_a_problem_has_type_title_status_detail_and_trace(client: TestClient) -> None:
    """The type ends in the slug; the document is never cached."""
    answer = client.get("/refused")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert document["type"].endswith("/unknown-action")
    assert document["status"] == 422
    assert document["detail"] == "no action jump"
    assert set(document) == {"type", "title", "status", "detail", "traceId"}


@pytest.mark.parametrize(
    ("store", "slug"),
    [("postgres", "database-unavailable"), ("redis", "dependency-unavailable"), ("nats", "dependency-unavailable")],
)
def test_a_store_that_is_away_is_503_with_retry_after(client: TestClient, store: str, slug: str) -> None:
    """Outages say when to come back."""
    answer = client.get(f"/away/{store}")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith(f"/{slug}")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_limit_says_when_to_come_back(client: TestClient) -> None:
    """Retry-After is whole seconds, rounded up; RateLimit and RateLimit-Policy name the limit."""
    answer = client.get("/limited")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["ratelimit-policy"] == '"user";q=10;w=60'
    assert answer.headers["ratelimit"] == '"user";r=0;t=3'


def test_validation_points_to_the_field(client: TestClient) -> None:
    """Validation errors are 400 with JSON pointers."""
    answer = client.get("/number?n=x")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/n"


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [("GET", "/nowhere", 404, "not-found"), ("POST", "/number", 405, "method-not-allowed")],
)
def test_unknown_paths_and_methods_are_problems_too(
    client: TestClient, method: str, path: str, status: int, slug: str
) -> None:
    """The framework's own errors have the same form."""
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["type"].endswith(f"/{slug}")


def test_an_unexpected_error_gives_nothing_away(client: TestClient) -> None:
    """A bug is a 500 without its message."""
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert "detail that must not leave" not in answer.text
    assert answer.json()["type"].endswith("/internal-error")


def test_a_401_carries_a_challenge() -> None:
    """RFC 9110: a 401 names the scheme to use."""
    assert problems.unauthorized("token-missing", "x").headers["WWW-Authenticate"].startswith("Bearer ")
    assert 'error="invalid_token"' in problems.unauthorized("token-expired", "x").headers["WWW-Authenticate"]
    assert problems.unauthorized("signature-invalid", "x").headers["WWW-Authenticate"].startswith("Signature ")
