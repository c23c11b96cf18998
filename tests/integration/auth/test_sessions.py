"""Sessions at the token endpoint, on real stores, with two pods."""

import asyncio
import base64
import hashlib
from datetime import timedelta

import jwt
import pytest
from sqlalchemy import text

from podium.common.database import make_engine
from podium.common.settings import DatabaseSettings
from podium.common.signing import derive_key
from tests.integration.auth.conftest import CLIENT, NARROW, Auth, StartAuth

CONTRACT_CLAIMS = {"iss", "aud", "sub", "client_id", "exp", "nbf", "iat", "jti", "sid", "scope", "username"}


async def _age(settings: DatabaseSettings, by: timedelta) -> None:
    """Let all uses of refresh tokens lie further back."""
    engine = make_engine(settings)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE refresh_token SET used_at = used_at - CAST(:by AS interval)"), {"by": by})
    await engine.dispose()


async def _until_revoked(auth: Auth, sid: str) -> None:
    async with asyncio.timeout(5):
        while not auth.app.state.verifier._is_revoked(sid):
            await asyncio.sleep(0.01)


async def test_a_session_has_everything_the_contract_names(auth: Auth) -> None:
    """A client opens a session for a user: token, refresh token, scope and a signing key bound to the session."""
    answer = await auth.token(
        grant_type="client_credentials", subject="u1", username="Ann", scope="scores:write scoreboard:read"
    )
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert set(document) == {"access_token", "token_type", "expires_in", "refresh_token", "scope", "signing_key"}
    assert document["token_type"] == "Bearer"
    assert document["expires_in"] == 300
    assert document["scope"] == "scores:write scoreboard:read"
    claims = auth.claims(document["access_token"])
    assert set(claims) == CONTRACT_CLAIMS
    assert (claims["sub"], claims["username"], claims["client_id"]) == ("u1", "Ann", CLIENT[0])
    assert claims["exp"] - claims["iat"] == 300
    assert jwt.get_unverified_header(document["access_token"])["typ"] == "at+jwt"
    key = document["signing_key"]
    assert (key["kid"], key["alg"]) == (f"1.{claims['sid']}", "hmac-sha256")
    assert len(base64.urlsafe_b64decode(key["k"] + "=")) == 32


async def test_tokens_verify_by_the_published_key_set(auth: Auth) -> None:
    """Whoever has the JWK Set can verify a token, and the set holds no private part."""
    token = (await auth.session())["access_token"]
    keys = (await auth.http.get("/.well-known/jwks.json")).json()
    assert [set(key) & {"d", "k"} for key in keys["keys"]] == [set()]
    jwk = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, jwk, algorithms=["EdDSA"], audience="podium", issuer="podium")["sub"] == "u1"


async def test_metadata_points_to_the_endpoints(auth: Auth) -> None:
    """RFC 8414 metadata names the endpoints under the address of the request."""
    metadata = (await auth.http.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["issuer"] == "podium"
    assert metadata["token_endpoint"] == f"{auth.url}/api/v1/auth/token"
    assert metadata["grant_types_supported"] == ["client_credentials", "refresh_token"]


async def test_a_client_without_subject_gets_its_own_token(auth: Auth) -> None:
    """Without a subject the token is the client's own and carries its scopes."""
    document = (await auth.token(grant_type="client_credentials")).json()
    assert auth.claims(document["access_token"])["sub"] == CLIENT[0]
    assert document["scope"] == "scores:write scoreboard:read analytics:read admin"


async def test_a_users_session_has_no_power_by_default(auth: Auth) -> None:
    """Without a scope a user's session may play and watch, never administer."""
    assert (await auth.session())["scope"] == "scores:write scoreboard:read"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "subject": "a:b"}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "subject": CLIENT[0]}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "subject": NARROW[0]}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "subject": "a\nb"}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "subject": "u1", "username": "\u202egnp"}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "subject": "u1", "scope": "root"}, 400, "invalid_scope"),
        ({"grant_type": "client_credentials", "client_secret": "x"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "unknown"}, 400, "invalid_grant"),
    ],
)
async def test_refusals_are_oauth_errors(auth: Auth, form: dict[str, str], status: int, error: str) -> None:
    """Every refusal is the JSON of RFC 6749 with its status, and is not cached."""
    answer = await auth.token(**form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "error_description" in answer.json()
    assert answer.headers["cache-control"] == "no-store"


async def test_a_client_gets_no_more_than_its_scopes(auth: Auth) -> None:
    """A scope beyond the client's own is refused."""
    answer = await auth.token(NARROW, grant_type="client_credentials", subject="u1", scope="scores:write")
    assert answer.json()["error"] == "invalid_scope"


@pytest.mark.parametrize("credentials", [None, (CLIENT[0], "wrong"), ("nobody", "wrong"), ("", "")])
async def test_a_client_must_authenticate(auth: Auth, credentials: tuple[str, str] | None) -> None:
    """Without right credentials: 401 invalid_client and a Basic challenge."""
    answer = await auth.token(credentials, grant_type="client_credentials")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_guessing_is_bounded_across_pods_without_locking_others_out(start_auth: StartAuth) -> None:
    """Ten failures of a client from one address block it on every pod; another address still gets in."""
    one, two = await start_auth(), await start_auth()
    for _ in range(10):
        assert (await one.token((CLIENT[0], "wrong"), grant_type="client_credentials")).status_code == 401
    blocked = await two.token(CLIENT, grant_type="client_credentials")
    assert blocked.status_code == 429
    assert int(blocked.headers["retry-after"]) > 0
    elsewhere = await two.http.post(
        "/api/v1/auth/token",
        data={"grant_type": "client_credentials"},
        auth=CLIENT,
        headers={"x-podium-client-ip": "203.0.113.7"},
    )
    assert elsewhere.status_code == 200


async def test_only_forms_are_read(auth: Auth) -> None:
    """JSON, a query, a repeated parameter and an overlong body are refused."""
    path = "/api/v1/auth/token"
    for request in (
        auth.http.build_request("POST", path, json={"grant_type": "client_credentials"}),
        auth.http.build_request("POST", path + "?grant_type=client_credentials"),
        auth.http.build_request(
            "POST", path, content="grant_type=a&grant_type=b",
            headers={"content-type": "application/x-www-form-urlencoded"},
        ),
    ):  # fmt: skip
        answer = await auth.http.send(request)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (await auth.token(grant_type="x" * 20_000)).status_code == 413


async def test_rotation_keeps_the_session(auth: Auth) -> None:
    """A refresh gives a new refresh token of the same session, with the same signing key."""
    first = await auth.session()
    second = (await auth.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["signing_key"] == first["signing_key"]
    assert auth.claims(second["access_token"])["sid"] == auth.claims(first["access_token"])["sid"]


async def test_a_lost_answer_does_not_end_the_session(auth: Auth) -> None:
    """A used token works once more within the grace; the first successor is dead, and using it ends the family."""
    first = await auth.session()
    lost = (await auth.refresh(first["refresh_token"])).json()
    again = await auth.refresh(first["refresh_token"])
    assert again.status_code == 200
    assert (await auth.refresh(again.json()["refresh_token"])).status_code == 200
    assert (await auth.refresh(lost["refresh_token"])).json()["error"] == "invalid_grant"
    await _until_revoked(auth, auth.claims(first["access_token"])["sid"])


async def test_the_grace_is_once(auth: Auth) -> None:
    """A third use ends the family, even within ten seconds."""
    first = await auth.session()
    await auth.refresh(first["refresh_token"])
    newest = (await auth.refresh(first["refresh_token"])).json()
    assert (await auth.refresh(first["refresh_token"])).status_code == 400
    assert (await auth.refresh(newest["refresh_token"])).status_code == 400


async def test_the_grace_ends_when_the_successor_is_used(auth: Auth) -> None:
    """A used token whose successor was used already is a theft: the family ends."""
    first = await auth.session()
    second = (await auth.refresh(first["refresh_token"])).json()
    third = (await auth.refresh(second["refresh_token"])).json()
    assert (await auth.refresh(first["refresh_token"])).status_code == 400
    assert (await auth.refresh(third["refresh_token"])).status_code == 400


async def test_the_grace_ends_after_ten_seconds(auth: Auth, database_settings: DatabaseSettings) -> None:
    """A used token presented later than the grace ends the family."""
    first = await auth.session()
    second = (await auth.refresh(first["refresh_token"])).json()
    await _age(database_settings, timedelta(seconds=11))
    assert (await auth.refresh(first["refresh_token"])).status_code == 400
    assert (await auth.refresh(second["refresh_token"])).status_code == 400


async def test_reuse_revokes_on_every_pod(start_auth: StartAuth) -> None:
    """After a reuse at one pod, another pod refuses the session's access token."""
    one, two = await start_auth(), await start_auth()
    first = await one.session(scope="admin")
    header = {"Authorization": f"Bearer {first['access_token']}"}
    assert (await two.http.get("/api/v1/admin/users", headers=header)).status_code == 200
    second = (await one.refresh(first["refresh_token"])).json()
    await one.refresh(second["refresh_token"])
    await two.refresh(first["refresh_token"])
    for pod in (one, two):
        await _until_revoked(pod, pod.claims(first["access_token"])["sid"])
    refused = await two.http.get("/api/v1/admin/users", headers=header)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (401, "token-invalid")


async def test_concurrent_refreshes_on_two_pods_leave_one_line(
    start_auth: StartAuth, database_settings: DatabaseSettings
) -> None:
    """Two pods asked at once with one token: both answer, by rotation and by grace, and one successor lives."""
    one, two = await start_auth(), await start_auth()
    first = await one.session()
    answers = await asyncio.gather(one.refresh(first["refresh_token"]), two.refresh(first["refresh_token"]))
    assert [answer.status_code for answer in answers] == [200, 200]
    engine = make_engine(database_settings)
    async with engine.connect() as connection:
        living = await connection.execute(
            text("SELECT token_sha256 FROM refresh_token WHERE used_at IS NULL AND revoked_at IS NULL")
        )
        found = living.scalars().all()
    await engine.dispose()
    issued = {hashlib.sha256(answer.json()["refresh_token"].encode()).digest() for answer in answers}
    assert len(found) == 1
    assert found[0] in issued


async def test_refresh_may_narrow_the_scope_and_never_widen_it(auth: Auth) -> None:
    """A narrower scope is granted for that access token; a wider one is refused and spends nothing."""
    first = await auth.session()
    wider = await auth.refresh(first["refresh_token"], scope="admin")
    assert wider.json()["error"] == "invalid_scope"
    narrow = (await auth.refresh(first["refresh_token"], scope="scoreboard:read")).json()
    assert narrow["scope"] == "scoreboard:read"


async def test_the_lifetime_is_absolute(start_auth: StartAuth) -> None:
    """No access token outlives the session, and refreshing does not prolong it."""
    auth = await start_auth(refresh_token_ttl=2)
    first = await auth.session()
    assert first["expires_in"] <= 2
    async with asyncio.timeout(10):
        token = first["refresh_token"]
        while (answer := await auth.refresh(token)).status_code == 200:
            token = answer.json()["refresh_token"]
    assert answer.json()["error"] == "invalid_grant"


@pytest.mark.parametrize("which", ["refresh_token", "access_token"])
async def test_revoking_either_token_ends_the_session(start_auth: StartAuth, which: str) -> None:
    """RFC 7009 by possession, for both kinds of token, heard of by every pod."""
    one, two = await start_auth(), await start_auth()
    session = await one.session()
    assert (await one.http.post("/api/v1/auth/revoke", data={"token": session[which]})).status_code == 200
    assert (await one.refresh(session["refresh_token"])).status_code == 400
    await _until_revoked(two, two.claims(session["access_token"])["sid"])


async def test_revoking_an_unknown_token_is_no_error(auth: Auth) -> None:
    """An unknown token: 200. No token: invalid_request."""
    assert (await auth.http.post("/api/v1/auth/revoke", data={"token": "unknown"})).status_code == 200
    assert (await auth.http.post("/api/v1/auth/revoke", data={"x": "y"})).json()["error"] == "invalid_request"


def test_the_signing_key_is_derived() -> None:
    """Two sessions never share a key."""
    assert derive_key(b"m" * 32, "a") != derive_key(b"m" * 32, "b")
