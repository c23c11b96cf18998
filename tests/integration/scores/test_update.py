"""One update, from the request to the rows, the event and the answer."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from podium.common.bus import EVENTS_STREAM, SCORE_UPDATED, SECURITY_PREFIX, connect
from podium.common.settings import NatsSettings
from tests.integration.scores.support import Scores, open_session, running, slug
from tests.support.client import Session, Update, body_of, digest_of, signed_headers

Database = Any


async def next_event(settings: NatsSettings, subject: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The first event on a subject, and its headers."""
    async with await connect(settings, "tests") as bus:
        subscription = await bus.jetstream.subscribe(subject, stream=EVENTS_STREAM, ordered_consumer=True)
        message = await subscription.next_msg(timeout=10)
        return json.loads(message.data), dict(message.headers or {})


async def test_an_update_is_counted_and_answered(scores: Scores, database: Database) -> None:
    """200 with the contract's fields; score, log and player rows are there."""
    session = open_session("ann")
    update = Update.of("win", action_id="a1", data={"deep": [1, {"x": "ü"}]})
    response = await scores.send(
        session, update, headers={"user-agent": "game/1.0", "x-podium-client-ip": "203.0.113.9"}
    )
    assert response.status_code == httpx.codes.OK, response.text
    answer = response.json()
    updated = answer.pop("lastUpdated")
    assert list(response.json()) == [
        "actionId", "userId", "username", "score", "scoreIncrease", "totalActions", "tier", "lastUpdated",
    ]  # fmt: skip
    assert answer == {
        "actionId": "a1", "userId": "ann", "username": "name of ann", "score": 10, "scoreIncrease": 10,
        "totalActions": 1, "tier": "bronze",
    }  # fmt: skip
    assert abs(datetime.fromisoformat(updated) - datetime.now(UTC)) < timedelta(seconds=30)
    assert response.headers["ratelimit-policy"] == '"user";q=10;w=60'
    assert response.headers["ratelimit"].startswith('"user";r=9;t=')
    score = await database.fetchrow("SELECT * FROM user_score WHERE user_id = 'ann'")
    assert (score["board"], score["score"], score["version"], score["username"]) == ("default", 10, 1, "name of ann")
    log = await database.fetchrow("SELECT * FROM action_log")
    assert json.loads(log["metadata"])["additionalData"] == {"deep": [1, {"x": "ü"}]}
    assert log["body_sha256"] == log["metadata_checksum"] == hashlib.sha256(update.body).digest()
    assert (str(log["ip_address"]), log["device_info"]) == ("203.0.113.9", "game/1.0")
    assert log["request_signature"].startswith("sig1=:")
    assert len(log["trace_id"]) == 32


async def test_an_update_becomes_an_event(scores: Scores, nats_settings: NatsSettings, database: Database) -> None:
    """The event carries the absolute score; once it is acknowledged the outbox is empty."""
    traceparent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    answer = await scores.send(
        open_session("bob"), Update.of("win", action_id="b1"), headers={"traceparent": traceparent}
    )
    assert answer.status_code == httpx.codes.OK
    event, headers = await next_event(nats_settings, SCORE_UPDATED)
    assert headers["Nats-Msg-Id"] == event["eventId"]
    (entry,) = event["updates"]
    assert entry.pop("traceparent").split("-")[1] == "ab" * 16
    assert entry.pop("reachedAt") == entry.pop("acceptedAt") == answer.json()["lastUpdated"]
    assert entry == {
        "board": "default", "userId": "bob", "username": "name of bob", "score": 10, "version": 1, "hidden": False,
        "totalActions": 1, "actionId": "b1", "actionType": "win", "scoreIncrease": 10, "ipAddress": "127.0.0.1",
    }  # fmt: skip
    while await database.fetchval("SELECT count(*) FROM outbox"):
        await asyncio.sleep(0.01)


async def test_operators_and_points_from_data(scores: Scores, database: Database) -> None:
    """Best keeps the best, Latest the last, Increment adds; the answer is of the action's first board."""
    session = open_session("cat")
    answers = [(await scores.update(session, "lap", data={"points": points})).json() for points in (50, 30)]
    assert [(one["score"], one["scoreIncrease"]) for one in answers] == [(50, 50), (50, 0)]
    rows = await database.fetch("SELECT board, score, version, reached_at, last_updated FROM user_score ORDER BY board")
    assert [(row["board"], row["score"], row["version"]) for row in rows] == [
        ("best", 50, 2), ("default", 80, 2), ("latest", 30, 2),
    ]  # fmt: skip
    assert rows[0]["reached_at"] < rows[0]["last_updated"]
    assert rows[1]["reached_at"] == rows[1]["last_updated"]


async def test_a_replay_gets_the_first_answer(scores: Scores, database: Database) -> None:
    """The same id and body again: 200, byte for byte the first answer, counted once, no quota spent."""
    session = open_session()
    update = Update.of("win")
    first = await scores.send(session, update)
    again = await scores.send(session, update.again())
    assert (again.status_code, again.content) == (httpx.codes.OK, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert await database.fetchval("SELECT score FROM user_score") == 10
    assert len(await database.fetchval("SELECT recent FROM player")) == 1


async def test_an_old_update_is_still_a_replay(scores: Scores, database: Database) -> None:
    """The look-up of the actionId comes before the check of the timestamp."""
    session = open_session()
    old = body_of(timestamp=(datetime.now(UTC) - timedelta(days=1)).isoformat(), action_id="old")
    update = replace(Update.of(), body=old)
    assert slug(await scores.send(session, update)) == (422, "stale-timestamp")
    answer = json.dumps({
        "actionId": "old", "userId": session.user_id, "username": "x", "score": 1, "scoreIncrease": 1,
        "totalActions": 1, "tier": None, "lastUpdated": "2026-01-01T00:00:00.000000Z",
    })  # fmt: skip
    await database.execute(
        "INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at,"
        " metadata, metadata_checksum, body_sha256, response)"
        " VALUES ($1, 'old', 'win', 1, now(), now(), '{}', $2, $2, $3)",
        session.user_id,
        hashlib.sha256(old).digest(),
        answer,
    )
    assert json.loads((await scores.send(session, update.again())).content) == json.loads(answer)


async def test_an_action_id_with_another_body_is_refused(scores: Scores) -> None:
    """422 action-id-reused; the id of another user is another id."""
    session = open_session()
    await scores.update(session, action_id="same")
    assert slug(await scores.update(session, action_id="same", data={"other": 1})) == (422, "action-id-reused")
    assert (await scores.update(open_session(), action_id="same")).status_code == httpx.codes.OK


def broken(**changes: Any) -> Update:
    """An update that is wrong in some ways; made when it is sent, for its times are of then."""
    return replace(Update.of(), **changes)


@pytest.mark.parametrize(
    ("expected", "make", "headers", "query"),
    [
        ((413, "body-too-large"), lambda: broken(body=b'"' + b"x" * 16384), {"authorization": None}, ""),
        ((415, "unsupported-media-type"), lambda: broken(content_type="text/plain"), {"authorization": None}, ""),
        ((415, "unsupported-media-type"), lambda: broken(content_type=None), {}, ""),
        ((415, "unsupported-media-type"), lambda: broken(content_type="application/json; charset=latin-1"), {}, ""),
        ((415, "unsupported-media-type"), lambda: broken(), {"content-encoding": "gzip"}, ""),
        ((401, "token-missing"), lambda: broken(), {"authorization": None, "signature": None}, ""),
        ((401, "token-missing"), lambda: broken(), {"authorization": "Basic YTpi"}, ""),
        ((401, "token-invalid"), lambda: broken(), {"authorization": "Bearer a.b.c"}, ""),
        ((401, "signature-missing"), lambda: broken(body=b"{"), {"signature": None, "signature-input": None}, ""),
        ((401, "signature-missing"), lambda: broken(), {"signature": None}, ""),
        ((401, "signature-invalid"), lambda: broken(), {"signature": "sig1=:AAAA:"}, ""),
        ((401, "signature-invalid"), lambda: broken(), {"content-digest": None}, ""),
        ((401, "signature-invalid"), lambda: broken(covered=("@method", "@path", "content-digest")), {}, ""),
        ((401, "signature-invalid"), lambda: broken(created=1_700_000_000), {}, ""),
        ((401, "signature-invalid"), lambda: broken(nonce="n" * 129), {}, ""),
        ((401, "signature-invalid"), lambda: broken(label="sig2"), {}, ""),
        ((400, "digest-mismatch"), lambda: broken(digest=digest_of(b"other")), {}, ""),
        ((400, "digest-mismatch"), lambda: broken(digest="sha-256=nothing"), {}, ""),
        ((400, "malformed-request"), lambda: broken(), {}, "?a=1"),
        ((400, "malformed-request"), lambda: broken(body=b"{"), {}, ""),
        ((400, "malformed-request"), lambda: broken(body=b'{"actionId":"a","actionId":"a"}'), {}, ""),
        ((400, "malformed-request"), lambda: broken(body=b"\xff"), {}, ""),
        ((400, "malformed-request"), lambda: broken(body=body_of(action_id="x" * 129)), {}, ""),
        ((400, "malformed-request"), lambda: broken(body=body_of(data={"a": "\x00"})), {}, ""),
        ((400, "malformed-request"), lambda: broken(body=body_of(timestamp="yesterday")), {}, ""),
        ((422, "stale-timestamp"), lambda: broken(body=body_of("nothing", timestamp="2020-01-01T00:00:00Z")), {}, ""),
        ((422, "unknown-action"), lambda: broken(body=body_of("nothing")), {}, ""),
        ((422, "invalid-action-data"), lambda: broken(body=body_of("bonus", data={"level": 0})), {}, ""),
        ((422, "invalid-action-data"), lambda: broken(body=body_of("lap", data={"points": 1001})), {}, ""),
    ],
)
async def test_the_first_fault_is_answered(
    scores: Scores,
    database: Database,
    expected: tuple[int, str],
    make: Callable[[], Update],
    headers: dict[str, Any],
    query: str,
) -> None:
    """Every fault has its status and slug, in the contract's order, and nothing is counted."""
    response = await scores.send(open_session(), make(), headers=headers, query=query)
    assert slug(response) == expected
    assert ("www-authenticate" in response.headers) == (response.status_code == httpx.codes.UNAUTHORIZED)
    assert await database.fetchval("SELECT count(*) FROM action_log") == 0


@pytest.mark.parametrize(
    ("expected", "claims"),
    [
        ((401, "token-expired"), {"exp": 1_700_000_000}),
        ((401, "token-invalid"), {"aud": "other"}),
        ((401, "token-invalid"), {"iss": "other"}),
        ((403, "scope-missing"), {"scope": "scoreboard:read"}),
        ((403, "scope-missing"), {"sub": "arcade"}),
    ],
)
async def test_a_token_must_be_right(scores: Scores, expected: tuple[int, str], claims: dict[str, Any]) -> None:
    """Expired, foreign, without the scope, or the client's own: refused before the signature is looked at."""
    response = await scores.send(open_session(**claims), Update.of(), headers={"signature": None})
    assert slug(response) == expected


async def test_a_key_of_another_session_is_foreign(scores: Scores) -> None:
    """A signature by another session's key is invalid, even of the same user."""
    one, other = open_session("dan"), open_session("dan")
    mixed = Session("dan", one.access_token, "", other.key_id, other.key, 300, one.scope)
    assert slug(await scores.update(mixed)) == (401, "signature-invalid")


async def test_a_nonce_is_good_once(scores: Scores, nats_settings: NatsSettings) -> None:
    """The same nonce again: 401, also when the first request was refused later on; and it is reported."""
    session = open_session()
    update = Update.of("nothing")
    assert slug(await scores.send(session, update)) == (422, "unknown-action")
    assert slug(await scores.send(session, replace(update, body=body_of()))) == (401, "replayed-nonce")
    assert (await scores.send(open_session(), replace(Update.of(), nonce=update.nonce))).status_code == httpx.codes.OK
    event, _ = await next_event(nats_settings, f"{SECURITY_PREFIX}replayed-nonce")
    assert (event["userId"], event["ipAddress"]) == (session.user_id, "127.0.0.1")


async def test_a_nonce_is_not_spent_by_a_wrong_signature(scores: Scores) -> None:
    """Nobody without the key can burn a nonce."""
    session = open_session()
    update = Update.of()
    assert slug(await scores.send(session, update, headers={"signature": "sig1=:AAAA:"})) == (401, "signature-invalid")
    assert (await scores.send(session, update)).status_code == httpx.codes.OK


async def test_signing_can_be_optional(settings: Any) -> None:
    """With Optional an unsigned update counts; a signature that is present is still verified."""
    optional = replace(settings, scores=settings.scores.model_copy(update={"request_signing": "Optional"}))
    unsigned = {"signature": None, "signature-input": None, "content-digest": None}
    async with running(optional) as scores:
        session = open_session()
        assert (await scores.send(session, Update.of(), headers=unsigned)).status_code == httpx.codes.OK
        wrong = {"signature": "sig1=:AAAA:"}
        assert slug(await scores.send(session, Update.of(), headers=wrong)) == (401, "signature-invalid")
        digest = {**unsigned, "content-digest": digest_of(b"other")}
        assert slug(await scores.send(session, Update.of(), headers=digest)) == (400, "digest-mismatch")


@pytest.mark.parametrize(("size", "expected"), [(16 * 1024, 400), (16 * 1024 + 1, 413), (512 * 1024, 413)])
async def test_a_body_of_unknown_length_is_read_no_further_than_allowed(
    scores: Scores, size: int, expected: int
) -> None:
    """A chunked body is bounded like any other: 16 KiB pass this check, a byte more does not."""
    session, update = open_session(), replace(Update.of(), body=b"[" + b" " * (size - 2) + b"]")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 4096):
            yield update.body[start : start + 4096]

    response = await scores.http.post(update.path, content=chunks(), headers=signed_headers(session, update))
    assert (
        slug(response)
        == {
            400: (400, "malformed-request"),
            413: (413, "body-too-large"),
        }[expected]
    )


async def test_separators_in_names_are_only_characters(scores: Scores, database: Database) -> None:
    """What travels to the database between separators may hold them."""
    names = [f"a\x1fb-{number}" for number in range(3)]
    updates = [scores.update(open_session(name, username=f"\x1f{name}\x1f"), action_id="\x1f") for name in names]
    answers = [answer.json() for answer in await asyncio.gather(*updates)]
    assert [(one["userId"], one["username"], one["actionId"]) for one in answers] == [
        (name, f"\x1f{name}\x1f", "\x1f") for name in names
    ]
    assert [row["user_id"] for row in await database.fetch("SELECT user_id FROM user_score ORDER BY 1")] == names


async def test_a_user_may_have_no_name(scores: Scores, database: Database) -> None:
    """An empty username is kept as it is."""
    assert (await scores.update(open_session("gus", username=""))).json()["username"] == ""
    assert await database.fetchval("SELECT username FROM user_score") == ""
