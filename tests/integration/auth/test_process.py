"""The auth service as a pod runs it: from the environment, with its OpenAPI description."""

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import httpx
from openapi_spec_validator import validate

from tests.integration.auth.conftest import CLIENT, HASHES, Auth
from tests.support.apps import run_service


async def test_the_process_serves_from_its_environment(
    service_env: dict[str, str], private_key: dict[str, Any], tmp_path: Path
) -> None:
    """Keys, clients and the master come from mounted files; a changed client file needs no restart."""
    public = {name: value for name, value in private_key.items() if name != "d"}
    master = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    clients = tmp_path / "clients.json"
    files = {
        "PODIUM_JWT_KEYS_FILE": {"keys": [private_key]},
        "PODIUM_JWT_JWKS_FILE": {"keys": [public]},
        "PODIUM_SIGNING_MASTER_FILE": {"current": "1", "keys": {"1": master}},
    }
    env = {**service_env, "PODIUM_CLIENTS_FILE": str(clients)}
    clients.write_text("{}")
    for name, content in files.items():
        path = tmp_path / name
        path.write_text(json.dumps(content))
        env[name] = str(path)
    async with run_service("podium.auth", env, tmp_path) as service, httpx.AsyncClient(base_url=service.url) as http:
        form = {"grant_type": "client_credentials", "subject": "u1"}
        clients.write_text(json.dumps({CLIENT[0]: {"hash": HASHES[CLIENT[0]], "scopes": ["scores:write"]}}))
        # The right secret of a client that the file names only since now: refused until the file is read again.
        while (answer := await http.post("/api/v1/auth/token", data=form, auth=CLIENT)).status_code == 401:
            ip = {"x-podium-client-ip": f"192.0.2.{secrets.randbelow(250)}"}
            http.headers.update(ip)
        assert answer.json()["scope"] == "scores:write"
        assert "podium_auth_tokens_issued_total" in (await http.get("/metrics")).text
        assert (await http.get("/healthz/live")).json() == {"status": "ok", "missing": []}
        log = service.log.read_text()
        for secret in (CLIENT[1], answer.json()["access_token"], answer.json()["refresh_token"], master):
            assert secret not in log


async def test_the_description_is_valid_and_whole(auth: Auth) -> None:
    """OpenAPI 3.1, with every refusal of each operation, and nothing internal."""
    document = (await auth.http.get("/openapi.json")).json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    token = document["paths"]["/api/v1/auth/token"]["post"]
    assert set(token["responses"]) == {"200", "400", "401", "413", "429", "503"}
    assert not {path for path in document["paths"] if path.startswith(("/healthz", "/metrics"))}
    for path, item in document["paths"].items():
        if path.startswith("/api/v1/admin"):
            for operation in item.values():
                assert {"200", "400", "401", "403", "503"} <= set(operation["responses"])
                assert operation["security"] == [{"accessToken": []}]
