"""Limits and repeats: exact, per user, and never paid for what was not counted."""

import asyncio
from collections import Counter
from dataclasses import replace

import httpx
import pytest

from tests.e2e.problem import check_problem
from tests.support.client import Client, Session, Update, body_of, new_nonce

LIMIT = 10
"""Updates of one user accepted in any 60 s."""

GATEWAY_LIMIT = 120
"""Requests of one user that the gateway lets through in a minute."""


async def test_exactly_ten_updates_a_minute(client: Client, session: Session) -> None:
    """Of many concurrent updates, on however many pods, exactly ten are counted."""
    answers = await asyncio.gather(*(client.update(session) for _ in range(3 * LIMIT)))
    assert Counter(answer.status_code for answer in answers) == {200: LIMIT, 429: 2 * LIMIT}
    assert max(answer.json()["score"] for answer in answers if answer.status_code == httpx.codes.OK) == 10 * LIMIT
    refused = next(answer for answer in answers if answer.status_code == httpx.codes.TOO_MANY_REQUESTS)
    check_problem(refused, 429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "ratelimit" in refused.headers
    assert "ratelimit-policy" in refused.headers


@pytest.mark.timeout(150)
async def test_the_quota_comes_back_when_the_answer_says(client: Client, session: Session) -> None:
    """After Retry-After the next update is counted; the window slides, so not all ten come back at once."""
    for _ in range(LIMIT):
        assert (await client.update(session)).status_code == 200
    refused = await client.update(session)
    check_problem(refused, 429, "rate-limited")
    await asyncio.sleep(int(refused.headers["retry-after"]))
    assert (await client.update(session)).status_code == 200


async def test_refused_updates_spend_no_quota(client: Client, session: Session) -> None:
    """What was not counted does not count against the limit."""
    for _ in range(LIMIT + 2):
        check_problem(await client.update(session, "cheat"), 422, "unknown-action")
    answers = [await client.update(session) for _ in range(LIMIT)]
    assert {answer.status_code for answer in answers} == {200}


async def test_a_cooldown_is_kept_and_ends(client: Client, session: Session) -> None:
    """A second ``combo`` has to wait, as long as the answer says."""
    assert (await client.update(session, "combo")).json()["scoreIncrease"] == 50
    refused = await client.update(session, "combo")
    check_problem(refused, 429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert (await client.update(session, "win")).status_code == 200
    await asyncio.sleep(int(refused.headers["retry-after"]))
    assert (await client.update(session, "combo")).status_code == 200


async def test_a_repeat_gets_the_first_answer(client: Client, session: Session) -> None:
    """The same actionId with the same body counts once, whenever and however often it comes."""
    update = Update.of()
    first = await client.send(session, update)
    assert first.status_code == 200
    assert "idempotent-replayed" not in first.headers
    for _ in range(LIMIT + 2):  # a replay spends no quota
        again = await client.send(session, update.again())
        assert again.status_code == 200
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json() == first.json()
    assert (await client.update(session)).json()["totalActions"] == 2


async def test_concurrent_duplicates_count_once(client: Client, session: Session) -> None:
    """Of duplicates sent at the same time one counts, and all get its answer."""
    body = body_of()
    answers = await asyncio.gather(
        *(client.send(session, replace(Update.of(), body=body, nonce=new_nonce())) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert (await client.update(session)).json()["score"] == 20


async def test_an_action_id_belongs_to_its_body(client: Client, session: Session) -> None:
    """The same actionId with another body is refused and counts nothing."""
    assert (await client.update(session, action_id="mine")).status_code == 200
    check_problem(await client.update(session, "combo", action_id="mine"), 422, "action-id-reused")
    assert (await client.update(session)).json()["score"] == 20


async def test_action_ids_of_two_users_do_not_meet(client: Client) -> None:
    """An actionId is unique per user."""
    for _ in range(2):
        answer = await client.update(await client.open_session(), action_id="shared")
        assert answer.json()["totalActions"] == 1


async def test_the_gateway_bounds_a_flooding_user(client: Client, session: Session) -> None:
    """Whatever the updates are, one user gets no more than the gateway's bound through to the service."""
    count = 2 * GATEWAY_LIMIT + 10  # more than the bound, even where a fixed window ends in between
    slots = asyncio.Semaphore(16)

    async def cheat() -> httpx.Response:
        async with slots:
            return await client.update(session, "cheat")

    answers = await asyncio.gather(*(cheat() for _ in range(count)))
    refused = [answer for answer in answers if answer.status_code == httpx.codes.TOO_MANY_REQUESTS]
    assert refused
    check_problem(refused[0], 429, "rate-limited")
    other = await client.open_session()
    assert (await client.update(other)).status_code == 200
