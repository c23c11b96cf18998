"""The analytics service as a pod runs it, and its OpenAPI description."""

from pathlib import Path

import httpx
from openapi_spec_validator import validate

from tests.integration.analytics.conftest import Analytics
from tests.support.apps import run_service


async def test_the_process_serves_from_its_environment(service_env: dict[str, str], tmp_path: Path) -> None:
    """It becomes ready with nothing but its stores, and refuses a stranger."""
    async with (
        run_service("podium.analytics", service_env, tmp_path) as service,
        httpx.AsyncClient(base_url=service.url) as http,
    ):
        assert (await http.get("/api/v1/analytics/summary")).status_code == 401
        assert "podium_consumer_lag" in (await http.get("/metrics")).text


async def test_the_description_is_valid_and_whole(analytics: Analytics) -> None:
    """OpenAPI 3.1, with every refusal of each operation, and nothing internal."""
    document = (await analytics.http.get("/openapi.json")).json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert not {path for path in document["paths"] if path.startswith(("/healthz", "/metrics"))}
    for item in document["paths"].values():
        for operation in item.values():
            assert {"401", "403", "503"} <= set(operation["responses"])
            assert operation["security"] == [{"accessToken": []}]
