"""Many requests, two pods: exact limits, one count of each action, and nothing lost when stores go away."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from podium.common.bus import EVENTS_STREAM, SCORE_UPDATED, connect
from podium.common.settings import DatabaseSettings, NatsSettings
from podium.scores.app import Settings
from tests.integration.scores.support import Scores, connect_database, open_session, running, slug, with_limit
from tests.support.client import Update
from tests.support.processes import paused
from tests.support.stores import Stores

Database = Any


@pytest.fixture
async def pods(settings: Settings) -> AsyncIterator[tuple[Scores, Scores]]:
    """Two running services on the same stores."""
    async with running(settings) as one, running(settings) as other:
        yield one, other


async def test_exactly_ten_a_minute_over_all_pods(pods: tuple[Scores, Scores], database: Database) -> None:
    """Of 40 updates at once over two pods ten are counted; the others are told when to come back."""
    session = open_session()
    answers = await asyncio.gather(*(pods[number % 2].update(session) for number in range(40)))
    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 30}
    assert sorted(answer.json()["totalActions"] for answer in answers if answer.status_code == 200) == [*range(1, 11)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert slug(refused) == (429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-policy"] == '"user";q=10;w=60'
    assert refused.headers["ratelimit"] == f'"user";r=0;t={refused.headers["retry-after"]}'
    assert await database.fetchval("SELECT score FROM user_score") == 100
    assert await database.fetchval("SELECT count(*) FROM action_log") == 10


async def test_refused_updates_spend_no_quota(scores: Scores) -> None:
    """Unknown actions and bad data leave all ten."""
    session = open_session()
    for _ in range(5):
        assert slug(await scores.update(session, "nothing")) == (422, "unknown-action")
        assert slug(await scores.update(session, "bonus")) == (422, "invalid-action-data")
    answers = [await scores.update(session) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]


async def test_cooldown_and_the_action_s_own_limit(scores: Scores) -> None:
    """A cool-down and maxPerMinute are limits of one action; the others go on."""
    session = open_session()
    assert (await scores.update(session, "combo")).status_code == httpx.codes.OK
    refused = await scores.update(session, "combo")
    assert slug(refused) == (429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert refused.headers["ratelimit-policy"] == '"cooldown-combo";q=1;w=5'
    statuses = [(await scores.update(session, "rare")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert (await scores.update(session, "win")).status_code == httpx.codes.OK


async def test_of_concurrent_duplicates_one_counts(pods: tuple[Scores, Scores], database: Database) -> None:
    """The same action twenty times at once over two pods: one is counted, all get its answer."""
    session = open_session()
    update = Update.of()
    answers = await asyncio.gather(*(pods[number % 2].send(session, update.again()) for number in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert await database.fetchval("SELECT score FROM user_score") == 10


async def test_many_users_at_once(pods: tuple[Scores, Scores], database: Database, nats_settings: NatsSettings) -> None:
    """300 updates of 60 users, in any mix of batches on two pods: every one counted, and in exactly one event."""
    sessions = [open_session(f"user-{number}") for number in range(60)]
    answers = await asyncio.gather(
        *(pods[number % 2].update(sessions[number * 7 % 60], "lap", data={"points": number}) for number in range(300))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert await database.fetchval("SELECT sum(score) FROM user_score WHERE board = 'default'") == sum(range(300))
    assert await database.fetchval("SELECT count(*) FROM action_log") == 300
    truth = {(row["board"], row["user_id"]): (row["version"], row["score"]) for row in await all_scores(database)}
    seen: Counter[tuple[str, str]] = Counter()
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    async with await connect(nats_settings, "tests") as bus:
        subscription = await bus.jetstream.subscribe(SCORE_UPDATED, stream=EVENTS_STREAM, ordered_consumer=True)
        while sum(seen.values()) < 900:
            for entry in json.loads((await subscription.next_msg(timeout=10)).data)["updates"]:
                key = entry["board"], entry["userId"]
                seen[entry["board"], entry["actionId"]] += 1
                newest[key] = max(newest.get(key, (0, 0)), (entry["version"], entry["score"]))
    assert set(seen.values()) == {1}
    assert newest == truth


async def all_scores(database: Database) -> list[Any]:
    rows: list[Any] = await database.fetch("SELECT board, user_id, version, score FROM user_score")
    return rows


async def test_a_poisoned_update_fails_alone(settings: Settings, database: Database) -> None:
    """An update that the database refuses takes none of its batch with it."""
    await database.execute("ALTER TABLE action_log ADD CHECK (action_id <> 'poison')")
    async with running(settings) as scores:
        ids = ["poison" if number == 17 else f"a{number}" for number in range(60)]
        answers = await asyncio.gather(*(scores.update(open_session(), action_id=one) for one in ids))
    assert Counter(answer.status_code for answer in answers) == {200: 59, 500: 1}
    assert slug(answers[17]) == (500, "internal-error")
    assert await database.fetchval("SELECT count(*) FROM action_log") == 59


async def test_a_restriction_in_the_row_is_authoritative(scores: Scores, database: Database) -> None:
    """A ban or block that this pod has not heard of yet holds all the same; when it ends, updates count again."""
    session = open_session("eve")
    assert (await scores.update(session)).status_code == httpx.codes.OK
    for kind, expected in (("ban", "user-banned"), ("block", "blocked-by-anomaly")):
        await database.execute("UPDATE player SET restriction = $1, restricted_until = NULL", kind)
        assert slug(await scores.update(session)) == (403, expected)
        await database.execute("UPDATE player SET restricted_until = 'infinity'")
        assert slug(await scores.update(session)) == (403, expected)
    await database.execute("UPDATE player SET restricted_until = now()")
    assert (await scores.update(session)).status_code == httpx.codes.OK


async def test_a_ban_reaches_every_pod(pods: tuple[Scores, Scores], nats_settings: NatsSettings) -> None:
    """Restrictions and revocations in the bucket are answered from memory, in the contract's order."""
    banned, revoked = open_session("fay"), open_session()
    async with await connect(nats_settings, "tests") as bus:
        bucket = await bus.security_bucket()
        await bucket.put("restricted.ZmF5", b'{"kind":"ban","until":null}')
        await bucket.put(f"revoked.{revoked.claims['sid']}", b'{"exp":9999999999}')
    for pod in pods:
        while (await pod.send(banned, Update.of(), headers={"signature": None})).status_code != httpx.codes.FORBIDDEN:
            await asyncio.sleep(0.01)
        assert slug(await pod.send(banned, Update.of(), headers={"signature": None})) == (403, "user-banned")
        while (await pod.update(revoked)).status_code != httpx.codes.UNAUTHORIZED:
            await asyncio.sleep(0.01)
        assert slug(await pod.update(revoked)) == (401, "token-invalid")


async def test_what_a_crash_left_is_relayed(
    settings: Settings, database: Database, nats_settings: NatsSettings
) -> None:
    """Rows of a dead pod are sent with their event id, and then deleted."""
    payload = b'{"eventId":"00000000-0000-4000-8000-000000000001","updates":[]}'
    await database.execute(
        "INSERT INTO outbox (event_id, subject, payload) VALUES ('00000000-0000-4000-8000-000000000001', $1, $2)",
        SCORE_UPDATED,
        payload,
    )
    async with running(settings), await connect(nats_settings, "tests") as bus:
        subscription = await bus.jetstream.subscribe(SCORE_UPDATED, stream=EVENTS_STREAM, ordered_consumer=True)
        message = await subscription.next_msg(timeout=10)
        assert message.data == payload
        assert (message.headers or {})["Nats-Msg-Id"] == "00000000-0000-4000-8000-000000000001"
        while await database.fetchval("SELECT count(*) FROM outbox"):
            await asyncio.sleep(0.01)


async def test_redis_away_does_not_stop_updates(stores: Stores, scores: Scores) -> None:
    """With the nonce store paused an update goes on, and the metric says so."""
    session = open_session()
    with paused(stores.redis.processes):
        assert (await scores.update(session)).status_code == httpx.codes.OK
        assert (await scores.update(session)).status_code == httpx.codes.OK
        text = (await scores.http.get("/metrics")).text
    (line,) = [line for line in text.splitlines() if line.startswith("podium_scores_nonces_unchecked_total ")]
    assert float(line.split()[1]) >= 2


async def test_nonces_are_checked_again_once_redis_is_back(stores: Stores, scores: Scores) -> None:
    """Nobody but the service itself looks whether it is."""
    session = open_session()
    with paused(stores.redis.processes):
        assert (await scores.update(session)).status_code == httpx.codes.OK
    async with asyncio.timeout(30):
        while True:
            update = Update.of("nothing")  # of no action: it spends a nonce and none of the minute's updates
            await scores.send(session, update)
            if slug(await scores.send(session, update)) == (401, "replayed-nonce"):
                return


async def test_nats_away_does_not_stop_updates(
    stores: Stores, scores: Scores, database: Database, nats_settings: NatsSettings
) -> None:
    """Events wait in the outbox while NATS is down and arrive when it is back."""
    session = open_session()
    stores.nats.process.kill()
    try:
        assert (await scores.update(session)).status_code == httpx.codes.OK
        assert await database.fetchval("SELECT count(*) FROM outbox") == 1
    finally:
        await asyncio.to_thread(stores.nats.process.restart)
    while await database.fetchval("SELECT count(*) FROM outbox"):
        await asyncio.sleep(0.05)
    async with await connect(nats_settings, "tests") as bus:
        subscription = await bus.jetstream.subscribe(SCORE_UPDATED, stream=EVENTS_STREAM, ordered_consumer=True)
        entry = json.loads((await subscription.next_msg(timeout=10)).data)["updates"][0]
    assert entry["userId"] == session.user_id


async def test_a_database_that_restarts_loses_and_doubles_nothing(
    stores: Stores, pods: tuple[Scores, Scores], database_settings: DatabaseSettings
) -> None:
    """PostgreSQL goes away under load: 200 or 503; retried with the same id each update counts exactly once."""
    statuses: Counter[int] = Counter()
    some_counted, some_refused = asyncio.Event(), asyncio.Event()

    async def player(number: int) -> None:
        session = open_session()
        for _ in range(5):
            update = Update.of()
            while (answer := await pods[number % 2].send(session, update)).status_code != httpx.codes.OK:
                assert slug(answer) == (503, "database-unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                some_refused.set()
                update = update.again()
                await asyncio.sleep(0.05)
            statuses[answer.status_code] += 1
            if statuses[200] >= 50:
                some_counted.set()

    players = asyncio.gather(*(player(number) for number in range(40)))
    await some_counted.wait()
    await asyncio.to_thread(stores.postgres.process.stop)
    try:
        await some_refused.wait()
    finally:
        await asyncio.to_thread(stores.postgres.process.restart)
    await players
    connection = await connect_database(database_settings)
    try:
        assert await connection.fetchval("SELECT sum(score) FROM user_score") == 2000
        assert await connection.fetchval("SELECT count(*) FROM action_log") == 200
    finally:
        await connection.close()


async def test_another_limit_of_the_settings(settings: Settings) -> None:
    """updatesPerUserPerMinute is the limit's size."""
    async with running(with_limit(settings, 3)) as scores:
        session = open_session()
        assert [(await scores.update(session)).status_code for _ in range(4)] == [200, 200, 200, 429]
