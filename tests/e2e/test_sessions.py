"""Sessions: opening, rotation with grace and reuse detection, revocation, discovery documents."""

import asyncio
import time

import httpx
import jwt
import pytest

from tests.e2e.problem import check_problem
from tests.support.client import Client, Session, Update

REVOKED_WITHIN = 1.0
"""Seconds after which a revoked session is refused everywhere."""


def _oauth_error(answer: httpx.Response, status: int, error: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] == error
    assert answer.headers["cache-control"] == "no-store"


async def _ends(client: Client, session: Session) -> None:
    """Wait until the session's access token is refused."""
    async with asyncio.timeout(REVOKED_WITHIN + 4):
        while (answer := await client.update(session)).status_code != httpx.codes.UNAUTHORIZED:
            await asyncio.sleep(0.05)
    check_problem(answer, 401, "token-invalid")


async def test_a_session_has_the_claims_of_the_contract(client: Client) -> None:
    """The access token is an RFC 9068 JWT bound to its session."""
    session = await client.open_session("someone", username="Some One")
    assert jwt.get_unverified_header(session.access_token)["typ"] == "at+jwt"
    claims = session.claims
    assert set(claims) >= {"iss", "aud", "sub", "client_id", "exp", "nbf", "iat", "jti", "sid", "scope", "username"}
    assert (claims["sub"], claims["username"], claims["client_id"]) == ("someone", "Some One", client.client_id)
    assert set(claims["scope"].split()) == {"scores:write", "scoreboard:read"}
    assert claims["exp"] - claims["iat"] == session.expires_in
    assert session.key_id.endswith(f".{claims['sid']}")
    assert len(session.key) >= 32


async def test_the_token_answer_is_not_stored(client: Client) -> None:
    """Tokens are nobody's to cache."""
    answer = await client.token({"grant_type": "client_credentials", "subject": "someone"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["token_type"].lower() == "bearer"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "client_credentials", "subject": "a:b"}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "subject": "game"}, 400, "invalid_request"),
        ({"grant_type": "client_credentials", "subject": "x", "scope": "admin"}, 400, "invalid_scope"),
        ({"grant_type": "password", "username": "x"}, 400, "unsupported_grant_type"),
        ({}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "nonsense"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
    ],
)
async def test_bad_token_requests(client: Client, form: dict[str, str], status: int, error: str) -> None:
    """Errors are those of RFC 6749."""
    _oauth_error(await client.token(form), status, error)


async def test_a_wrong_client_secret_is_refused(client: Client) -> None:
    """401 with a challenge for the scheme that was used."""
    answer = await client.token(
        {"grant_type": "client_credentials", "subject": "x"}, auth=httpx.BasicAuth(client.client_id, "wrong")
    )
    _oauth_error(answer, 401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_a_json_body_is_no_form(client: Client) -> None:
    """The token endpoint takes forms only."""
    answer = await client.http.post("/api/v1/auth/token", json={"grant_type": "client_credentials"})
    assert answer.status_code in {400, 401, 415}


async def test_refresh_rotates_the_tokens_and_keeps_the_session(client: Client, session: Session) -> None:
    """A refresh gives new tokens of the same session, with the key that signs now."""
    answer = await client.refresh(session.refresh_token)
    assert answer.status_code == 200, answer.text
    renewed = Session.of(session.user_id, answer.json())
    assert renewed.refresh_token != session.refresh_token
    assert renewed.claims["sid"] == session.claims["sid"]
    assert (await client.update(renewed)).status_code == 200


async def test_a_lost_answer_can_be_repeated_once(client: Client, session: Session) -> None:
    """Within the grace a used token works once more while its successor is unused; that successor is revoked."""
    lost = (await client.refresh(session.refresh_token)).json()
    second = await client.refresh(session.refresh_token)
    assert second.status_code == 200, second.text
    assert second.json()["refresh_token"] != lost["refresh_token"]
    _oauth_error(await client.refresh(lost["refresh_token"]), 400, "invalid_grant")


async def test_a_token_whose_successor_was_used_ends_the_session(client: Client, session: Session) -> None:
    """Reuse means theft: tokens and signing key of the family are void within a second."""
    first = (await client.refresh(session.refresh_token)).json()
    newest = Session.of(session.user_id, (await client.refresh(first["refresh_token"])).json())
    _oauth_error(await client.refresh(session.refresh_token), 400, "invalid_grant")
    await _ends(client, newest)
    _oauth_error(await client.refresh(newest.refresh_token), 400, "invalid_grant")


@pytest.mark.parametrize("which", ["refresh_token", "access_token"])
async def test_revocation_ends_the_session_within_a_second(client: Client, session: Session, which: str) -> None:
    """After a revocation every pod refuses the session's access token (RFC 7009)."""
    assert (await client.update(session)).status_code == 200
    assert (await client.revoke(getattr(session, which))).status_code == 200
    revoked = time.monotonic()
    await asyncio.sleep(REVOKED_WITHIN)
    for _ in range(4):  # whichever pod answers
        check_problem(await client.send(session, Update.of()), 401, "token-invalid")
    assert time.monotonic() > revoked
    _oauth_error(await client.refresh(session.refresh_token), 400, "invalid_grant")


async def test_an_unknown_token_is_revoked_without_a_word(client: Client) -> None:
    """RFC 7009: nothing to learn from it."""
    assert (await client.revoke("nobody-knows-it")).status_code == 200


async def test_the_published_keys_verify_the_tokens(client: Client, session: Session) -> None:
    """Anyone can verify an access token with the JWK Set, and the metadata says where that is (RFC 8414)."""
    metadata = (await client.http.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["jwks_uri"].endswith("/.well-known/jwks.json")
    assert metadata["token_endpoint"].endswith("/api/v1/auth/token")
    assert {"client_credentials", "refresh_token"} <= set(metadata["grant_types_supported"])
    key_set = jwt.PyJWKSet.from_dict((await client.http.get("/.well-known/jwks.json")).json())
    header = jwt.get_unverified_header(session.access_token)
    key = next(key for key in key_set.keys if key.key_id == header["kid"])
    claims = jwt.decode(
        session.access_token, key, algorithms=[header["alg"]], audience=session.claims["aud"], issuer=metadata["issuer"]
    )
    assert claims["sub"] == session.user_id


async def test_the_published_keys_are_public(client: Client) -> None:
    """No private part is in the JWK Set."""
    keys = (await client.http.get("/.well-known/jwks.json")).json()["keys"]
    assert keys
    assert all("d" not in key for key in keys)
