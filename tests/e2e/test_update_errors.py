"""Every refusal of a score update in the contract's table: status, slug, headers, and that nothing was counted."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.e2e.problem import check_problem
from tests.support.client import Client, Session, Update, body_of, digest_of, new_nonce, signed_headers

Attempt = Callable[[Client, Session], Awaitable[httpx.Response]]


def _attempt(
    make: Callable[[], Update] = Update.of,
    *,
    headers: dict[str, str | None] | None = None,
    query: str = "",
    sent_body: bytes | None = None,
) -> Attempt:
    """An update that is wrong in one way, sent by a session that is right."""

    async def send(client: Client, session: Session) -> httpx.Response:
        return await client.send(session, make(), headers=headers, query=query, sent_body=sent_body)

    return send


def _changed(**fields: Any) -> Attempt:
    """An update of which some fields are not what they should be."""
    return _attempt(lambda: replace(Update.of(), **fields))


def _created(seconds: int) -> Attempt:
    """An update signed at a time that is this much off."""
    return _attempt(lambda: replace(Update.of(), created=int(time.time()) + seconds))


def _body(raw: bytes | str) -> Attempt:
    content = raw if isinstance(raw, bytes) else raw.encode()
    return _changed(body=content)


def _ago(**delta: float) -> str:
    return (datetime.now(UTC) - timedelta(**delta)).isoformat()


def _without(field: str) -> bytes:
    body = json.loads(body_of())
    del body[field]
    return json.dumps(body).encode()


async def _foreign_key(client: Client, session: Session) -> httpx.Response:
    """A valid signature, by the key of another session."""
    other = await client.open_session()
    return await client.send(replace(session, key_id=other.key_id, key=other.key), Update.of())


async def _tampered_token(client: Client, session: Session) -> httpx.Response:
    head, payload, signature = session.access_token.split(".")
    forged = ("A" if signature[0] != "A" else "B") + signature[1:]
    return await client.send(replace(session, access_token=f"{head}.{payload}.{forged}"), Update.of())


async def _unsigned_token(client: Client, session: Session) -> httpx.Response:
    payload = session.access_token.split(".")[1]
    return await client.send(
        replace(session, access_token=f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{payload}."), Update.of()
    )


async def _refresh_token_as_access_token(client: Client, session: Session) -> httpx.Response:
    return await client.send(replace(session, access_token=session.refresh_token), Update.of())


TABLE: list[tuple[str, int, str, Attempt]] = [
    ("query string", 400, "malformed-request", _attempt(query="?a=1")),
    ("body is not JSON", 400, "malformed-request", _body("{")),
    ("body is not UTF-8", 400, "malformed-request", _body(b'{"actionId":"\xff"}')),
    ("body is a list", 400, "malformed-request", _body("[]")),
    ("no actionId", 400, "malformed-request", _body(_without("actionId"))),
    ("no actionMetadata", 400, "malformed-request", _body(_without("actionMetadata"))),
    ("empty actionId", 400, "malformed-request", _body(body_of(action_id=""))),
    ("actionId of 129 characters", 400, "malformed-request", _body(body_of(action_id="a" * 129))),
    ("timestamp is no time", 400, "malformed-request", _body(body_of(timestamp="yesterday"))),
    ("timestamp has no offset", 400, "malformed-request", _body(body_of(timestamp="2026-01-01T00:00:00"))),
    (
        "digest of something else",
        400,
        "digest-mismatch",
        _changed(digest=digest_of(b"x")),
    ),
    ("body changed on the way", 400, "digest-mismatch", _attempt(sent_body=body_of("combo"))),
    ("no token", 401, "token-missing", _attempt(headers={"authorization": None})),
    ("token is no JWT", 401, "token-invalid", _attempt(headers={"authorization": "Bearer nonsense"})),
    ("token's signature is wrong", 401, "token-invalid", _tampered_token),
    ("token with alg none", 401, "token-invalid", _unsigned_token),
    ("refresh token", 401, "token-invalid", _refresh_token_as_access_token),
    ("no signature", 401, "signature-missing", _attempt(headers={"signature": None, "signature-input": None})),
    ("other body signed by another key", 401, "signature-invalid", _foreign_key),
    (
        "created too long ago",
        401,
        "signature-invalid",
        _created(-310),
    ),
    (
        "created in the future",
        401,
        "signature-invalid",
        _created(310),
    ),
    (
        "path not covered",
        401,
        "signature-invalid",
        _changed(covered=("@method", "content-digest", "authorization")),
    ),
    ("signature is wrong", 401, "signature-invalid", _attempt(headers={"signature": "sig1=:" + "A" * 43 + "=:"})),
    ("wrong algorithm", 401, "signature-invalid", _changed(algorithm="hmac-sha512")),
    ("nonce of 129 characters", 401, "signature-invalid", _changed(nonce="n" * 129)),
    ("body over 16 KiB", 413, "body-too-large", _body(body_of(data={"x": "y" * (16 * 1024)}))),
    (
        "not JSON's media type",
        415,
        "unsupported-media-type",
        _changed(content_type="text/plain"),
    ),
    ("no media type", 415, "unsupported-media-type", _changed(content_type=None)),
    ("unknown action", 422, "unknown-action", _attempt(lambda: Update.of("cheat"))),
    ("no level", 422, "invalid-action-data", _attempt(lambda: Update.of("bonus"))),
    ("level too low", 422, "invalid-action-data", _attempt(lambda: Update.of("bonus", data={"level": 0}))),
    ("level is text", 422, "invalid-action-data", _attempt(lambda: Update.of("bonus", data={"level": "1"}))),
    ("data is no object", 422, "invalid-action-data", _attempt(lambda: Update.of("win", data=[1]))),
    ("timestamp too old", 422, "stale-timestamp", _attempt(lambda: Update.of(timestamp=_ago(seconds=310)))),
    ("timestamp in the future", 422, "stale-timestamp", _attempt(lambda: Update.of(timestamp=_ago(seconds=-310)))),
]


@pytest.mark.parametrize(("status", "slug", "attempt"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
async def test_a_wrong_update_is_refused(
    client: Client, session: Session, status: int, slug: str, attempt: Attempt
) -> None:
    """Each wrong update gets the status and the slug of the table, and the user still has no score."""
    check_problem(await attempt(client, session), status, slug)
    answer = await client.update(session)
    assert (answer.status_code, answer.json().get("score")) == (200, 10), answer.text


async def test_validation_points_at_what_is_wrong(client: Client, session: Session) -> None:
    """``errors[]`` carries JSON pointers."""
    bad_form = check_problem(await _body(_without("actionId"))(client, session), 400, "malformed-request")
    assert any(error["pointer"].lstrip("#") in {"", "/actionId"} for error in bad_form["errors"])
    bad_data = await client.update(session, "bonus", data={"level": 0})
    problem = check_problem(bad_data, 422, "invalid-action-data")
    assert any("/level" in error["pointer"] for error in problem["errors"])


async def test_a_nonce_is_good_once(client: Client, session: Session) -> None:
    """The second update with a nonce is refused, even when the first one was refused for its contents."""
    nonce = new_nonce()
    check_problem(await client.send(session, replace(Update.of("cheat"), nonce=nonce)), 422, "unknown-action")
    check_problem(await client.send(session, replace(Update.of(), nonce=nonce)), 401, "replayed-nonce")


async def test_a_wrong_signature_spends_no_nonce(client: Client, session: Session) -> None:
    """Whoever cannot sign cannot burn another's nonces."""
    update = Update.of()
    wrong = replace(session, key=b"\0" * 32)
    check_problem(await client.send(wrong, update), 401, "signature-invalid")
    assert (await client.send(session, update)).status_code == 200


async def test_writing_needs_the_scope(client: Client) -> None:
    """A token that may only read changes nothing."""
    reader = await client.open_session(scope="scoreboard:read")
    check_problem(await client.update(reader), 403, "scope-missing")


async def test_a_banned_user_is_refused_until_unbanned(
    client: Client, ops: Client, ops_headers: dict[str, str]
) -> None:
    """A ban takes effect at once and takes the user off the board; the end of it restores both."""
    session = await client.open_session()
    assert (await client.update(session)).status_code == 200
    user = f"/api/v1/admin/users/{session.user_id}"
    banned = await ops.http.post(f"{user}/ban", json={"reason": "test"}, headers=ops_headers)
    assert banned.is_success, banned.text
    check_problem(await client.update(session), 403, "user-banned")
    freed = await ops.http.post(f"{user}/unban", headers=ops_headers)
    assert freed.is_success, freed.text
    assert (await client.update(session)).json()["score"] == 20


async def test_administration_needs_its_scope(client: Client, session: Session) -> None:
    """A player cannot ban anybody."""
    answer = await client.http.post(
        f"/api/v1/admin/users/{session.user_id}/ban",
        json={"reason": "test"},
        headers={"authorization": f"Bearer {session.access_token}"},
    )
    check_problem(answer, 403, "scope-missing")


def _in_order() -> list[tuple[str, str, Attempt]]:
    """Updates with two faults each, and the slug of the check that comes first."""
    text = {"content-type": "text/plain"}
    no_token: dict[str, str | None] = {"authorization": None}
    no_signature: dict[str, str | None] = {"signature": None, "signature-input": None}
    forged: dict[str, str | None] = {"signature": "sig1=:" + "A" * 43 + "=:"}
    old = _ago(seconds=310)
    return [
        ("media type before token", "unsupported-media-type", _attempt(headers={**text, **no_token})),
        ("token before signature", "token-missing", _attempt(headers={**no_token, **no_signature})),
        ("signature before digest", "signature-invalid", _attempt(headers=forged, sent_body=b"{}")),
        ("digest before form", "digest-mismatch", _attempt(sent_body=b"{")),
        ("form before timestamp", "malformed-request", _body(body_of(action_id="", timestamp=old))),
        ("timestamp before action", "stale-timestamp", _attempt(lambda: Update.of("cheat", timestamp=old))),
    ]


@pytest.mark.parametrize(("slug", "attempt"), [row[1:] for row in _in_order()], ids=[row[0] for row in _in_order()])
async def test_the_first_failing_check_answers(client: Client, session: Session, slug: str, attempt: Attempt) -> None:
    """The checks come in the contract's order."""
    answer = await attempt(client, session)
    check_problem(answer, answer.status_code, slug)


async def test_the_scope_comes_before_the_signature(client: Client) -> None:
    """A reader learns that the scope is missing, whatever was signed."""
    reader = await client.open_session(scope="scoreboard:read")
    answer = await client.send(reader, Update.of(), headers={"signature": None, "signature-input": None})
    check_problem(answer, 403, "scope-missing")


async def test_a_reused_action_id_comes_before_the_timestamp(client: Client, session: Session) -> None:
    """An actionId that was counted is looked up before the rules are asked."""
    assert (await client.update(session, action_id="once")).status_code == 200
    answer = await client.update(session, "cheat", action_id="once", timestamp=_ago(seconds=310))
    check_problem(answer, 422, "action-id-reused")


async def test_the_headers_of_two_requests_do_not_mix(client: Client, session: Session) -> None:
    """A signature is bound to its token: another session's token with it is refused."""
    other = await client.open_session()
    update = Update.of()
    headers = signed_headers(session, update) | {"authorization": f"Bearer {other.access_token}"}
    answer = await client.http.post(update.path, content=update.body, headers=headers)
    check_problem(answer, 401, "signature-invalid")
