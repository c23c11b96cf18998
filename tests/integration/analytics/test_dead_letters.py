"""Dead letters end to end: messages that really fail, listed, replayed, failing again or healed, discarded."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.common.bus import DLQ_STREAM, EVENTS_STREAM, SCORE_UPDATED, Bus
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from tests.integration.analytics.conftest import Analytics, bearer, entry, publish
from tests.integration.scoreboard.support import running_projector

PATH = "/api/v1/admin/dead-letters"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


async def _letters(analytics: Analytics, number: int) -> list[dict[str, Any]]:
    """All dead letters, once there are ``number``."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = (await analytics.get(PATH, scope="admin")).json()["deadLetters"]
        return len(found) == number

    await _until(there)
    return found


async def _handled(bus: Bus, *consumers: str) -> None:
    """Wait until the consumers have acknowledged everything."""
    last = await bus.last_sequence(SCORE_UPDATED)

    async def idle() -> bool:
        return all([await bus.acknowledged(consumer) >= last for consumer in consumers])

    await _until(idle)


async def test_a_letter_keeps_what_the_message_had(analytics: Analytics, bus: Bus) -> None:
    """Reason, place, trace and headers; what comes after it is counted."""
    await bus.publish(SCORE_UPDATED, b"not json", message_id="poison", traceparent=TRACEPARENT)
    await publish(bus, entry("a"))
    (letter,) = await _letters(analytics, 1)
    assert letter["reason"].startswith("not a score event: ")
    assert (letter["consumer"], letter["subject"], letter["streamSequence"]) == ("analytics", SCORE_UPDATED, 1)
    assert (letter["traceId"], letter["replays"], letter["size"]) == (TRACE, 0, 8)
    assert letter["time"]
    answer = await analytics.get(f"{PATH}/{letter['id']}", scope="admin")
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert found["payload"] == "bm90IGpzb24="
    assert found["headers"]["traceparent"] == TRACEPARENT
    assert found["headers"]["Podium-Reason"] == letter["reason"]


async def test_a_replay_that_fails_again_comes_back_and_counts(analytics: Analytics, bus: Bus) -> None:
    """As another letter, with its trace, and one replay more each time."""
    await bus.publish(SCORE_UPDATED, b"not json", message_id="poison", traceparent=TRACEPARENT)
    ids = set()
    for replays in range(3):
        (letter,) = await _letters(analytics, 1)
        assert (letter["replays"], letter["traceId"]) == (replays, TRACE)
        assert letter["id"] not in ids
        ids.add(letter["id"])
        before = (await bus.jetstream.stream_info(EVENTS_STREAM)).state.messages
        answer = await analytics.post(f"{PATH}/{letter['id']}/replay")
        assert (answer.status_code, answer.json()["subject"]) == (200, SCORE_UPDATED)
        assert (await bus.jetstream.stream_info(EVENTS_STREAM)).state.messages == before + 1
        assert (await analytics.get(f"{PATH}/{letter['id']}", scope="admin")).status_code == 404


async def test_a_replay_is_for_the_consumer_that_failed(
    analytics: Analytics,
    bus: Bus,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
) -> None:
    """A message that two consumers cannot handle makes two letters, and replaying both makes two again, not four."""
    async with running_projector(database_settings, redis_settings, nats_settings):
        await bus.publish(SCORE_UPDATED, b"not json", message_id="poison")
        for _ in range(2):
            letters = await _letters(analytics, 2)
            assert {letter["consumer"] for letter in letters} == {"analytics", "projector"}
            for letter in letters:
                assert (await analytics.post(f"{PATH}/{letter['id']}/replay")).status_code == 200
        await _handled(bus, "analytics", "projector")
        letters = await _letters(analytics, 2)
        assert [letter["replays"] for letter in letters] == [2, 2]


async def test_a_replay_heals_what_a_repair_made_possible(analytics: Analytics, bus: Bus, engine: AsyncEngine) -> None:
    """An event that the database refused is counted, once, when the database takes it again."""
    broken = "ALTER TABLE scoreboard_analytics ADD CONSTRAINT broken CHECK (points <> 10) NOT VALID"
    async with engine.begin() as connection:
        await connection.execute(text(broken))
    await publish(bus, entry("a"))
    (letter,) = await _letters(analytics, 1)
    assert letter["reason"].startswith("cannot be counted: ")
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE scoreboard_analytics DROP CONSTRAINT broken"))
    answers = await asyncio.gather(*(analytics.post(f"{PATH}/{letter['id']}/replay") for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {200, 404}
    await _handled(bus, "analytics")
    assert await _letters(analytics, 0) == []
    async with engine.connect() as connection:
        sums = (await connection.execute(text("SELECT sum(updates), sum(points) FROM scoreboard_analytics"))).one()
    assert tuple(map(int, sums)) == (1, 10)


async def test_a_letter_is_discarded_once(analytics: Analytics, bus: Bus) -> None:
    """Then it is unknown; nothing is published."""
    await bus.publish(SCORE_UPDATED, b"{", message_id="poison")
    (letter,) = await _letters(analytics, 1)
    path = f"{PATH}/{letter['id']}"
    assert (await analytics.http.delete(path, headers=bearer("admin"))).status_code == 204
    assert (await analytics.http.delete(path, headers=bearer("admin"))).status_code == 404
    assert (await bus.jetstream.stream_info(DLQ_STREAM)).state.messages == 0
    assert (await bus.jetstream.stream_info(EVENTS_STREAM)).state.messages == 1


async def test_letters_are_paged(analytics: Analytics, bus: Bus) -> None:
    """Oldest first, page by page, over gaps."""
    for number in range(5):
        await bus.publish(SCORE_UPDATED, b"{", message_id=f"p{number}")
    await _letters(analytics, 5)
    await bus.jetstream.delete_msg(DLQ_STREAM, 2)
    first = (await analytics.get(PATH, scope="admin", limit=2)).json()
    assert ([one["id"] for one in first["deadLetters"]], first["next"], first["total"]) == ([1, 3], 3, 4)
    rest = (await analytics.get(PATH, scope="admin", limit=2, after=3)).json()
    assert ([one["id"] for one in rest["deadLetters"]], rest["next"]) == ([4, 5], None)


@pytest.mark.parametrize(("letter", "status"), [("0", 400), ("-1", 400), ("x", 400), ("1.5", 400), (str(2**53), 400)])
async def test_bad_ids(analytics: Analytics, letter: str, status: int) -> None:
    """An id is a whole number from 1 that every JSON client can hold; one of no letter is 404."""
    for path in (letter, f"{letter}/replay"):
        send = analytics.post if path.endswith("replay") else analytics.get
        answer = await send(f"{PATH}/{path}", scope="admin")
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, "malformed-request")


async def test_unknown_letters(analytics: Analytics) -> None:
    """404 for reading, replaying and discarding."""
    for answer in (
        await analytics.get(f"{PATH}/1", scope="admin"),
        await analytics.post(f"{PATH}/{2**53 - 1}/replay"),
        await analytics.http.delete(f"{PATH}/7", headers=bearer("admin")),
    ):
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "dead-letter-unknown")


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 201}, {"after": -1}, {"after": "x"}])
async def test_bad_pages(analytics: Analytics, query: dict[str, Any]) -> None:
    """Bad values are 400."""
    answer = await analytics.get(PATH, scope="admin", **query)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (400, "malformed-request")


async def test_what_names_no_event_is_not_replayed(analytics: Analytics, bus: Bus) -> None:
    """Nobody can make the admin API publish elsewhere: 409, and the letter stays."""
    await bus.jetstream.publish(
        "podium.dlq.analytics", json.dumps({}).encode(), headers={"Podium-Subject": "podium.rebuild.default"}
    )
    (letter,) = await _letters(analytics, 1)
    answer = await analytics.post(f"{PATH}/{letter['id']}/replay")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "not-replayable")
    await _letters(analytics, 1)


async def test_the_metric_counts_letters_by_consumer(analytics: Analytics, bus: Bus) -> None:
    """From zero for those that never failed, so that an alert can be made of it."""
    await bus.publish(SCORE_UPDATED, b"{", message_id=str(uuid.uuid4()))
    await _letters(analytics, 1)

    async def counted() -> bool:
        lines = (await analytics.http.get("/metrics")).text.splitlines()
        return {
            'podium_dead_letters{consumer="analytics"} 1.0',
            'podium_dead_letters{consumer="projector"} 0.0',
        } <= set(lines)

    await _until(counted)
