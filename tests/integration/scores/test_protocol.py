"""Requests as they come over a connection: the short way and the usual one meet on the same sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.integration.scores.support import Scores, open_session, slug
from tests.support.client import Session, Update, signed_headers
from tests.support.stores import Stores

Database = Any


def encoded(session: Session, update: Update, line: str = "POST {path} HTTP/1.1", **extra: str) -> bytes:
    """A request as bytes."""
    headers = {"host": "podium", **signed_headers(session, update), "content-length": str(len(update.body)), **extra}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return f"{line.format(path=update.path)}\r\n{head}\r\n".encode() + update.body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of one answer; answers that announce more (100) are passed over."""
    while True:
        status = int((await reader.readline()).split()[1])
        headers = {}
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if status >= 200:
            return status, headers, await reader.readexactly(int(headers["content-length"]))


@asynccontextmanager
async def connection(scores: Scores) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    url = httpx.URL(scores.http.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_requests_on_one_connection_are_answered_in_order(scores: Scores) -> None:
    """Sent without waiting for answers: updates, a faulty one and another path, each its own answer, in order."""
    session = open_session()
    updates = [Update.of("win", action_id=f"a{number}") for number in range(4)]
    async with connection(scores) as (reader, writer):
        parts = [encoded(session, update) for update in updates]
        parts.insert(2, encoded(session, Update.of("nothing")))
        parts.insert(1, b"GET /healthz/live HTTP/1.1\r\nhost: podium\r\n\r\n")
        writer.write(b"".join(parts))
        answers = [await read_answer(reader) for _ in parts]
    assert [status for status, _, _ in answers] == [200, 200, 200, 422, 200, 200]
    ids = [json.loads(body).get("actionId") for _, _, body in answers]
    assert ids == ["a0", None, "a1", None, "a2", "a3"]


async def test_a_request_may_come_in_pieces(scores: Scores) -> None:
    """Wherever the network cuts it."""
    session = open_session()
    async with connection(scores) as (reader, writer):
        data = encoded(session, Update.of("win"))
        for start in range(0, len(data), 97):
            writer.write(data[start : start + 97])
            await writer.drain()
            await asyncio.sleep(0)
        assert (await read_answer(reader))[0] == httpx.codes.OK


@pytest.mark.parametrize(
    ("line", "extra", "closes"),
    [
        ("POST {path} HTTP/1.1", {"connection": "close"}, True),
        ("POST {path} HTTP/1.0", {}, True),
        ("POST {path} HTTP/1.1", {"expect": "100-continue"}, False),
        ("POST {path} HTTP/1.1", {"Cookie": "a=b", "accept": "*/*"}, False),
        ("POST http://podium{path} HTTP/1.1", {}, False),
    ],
)
async def test_unusual_requests_are_answered_as_usual(
    scores: Scores, line: str, extra: dict[str, str], closes: bool
) -> None:
    """The short way does not know these; the usual one does."""
    async with connection(scores) as (reader, writer):
        writer.write(encoded(open_session(), Update.of("win"), line, **extra))
        status, _, body = await read_answer(reader)
        assert (status, json.loads(body)["score"]) == (200, 10)
        if closes:
            assert await reader.read() == b""


async def test_both_ways_answer_alike(scores: Scores) -> None:
    """Accepted, repeated, refused, replayed: the same status, headers and form whichever way the updates went."""
    sampled = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}  # a recorded request goes the usual way
    unsampled = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-00"}
    seen = []
    for headers in (sampled, unsampled):
        session = open_session()
        update = Update.of("combo")
        accepted = await scores.send(session, update, headers=headers)
        repeated = await scores.send(session, update.again(), headers=headers)
        refused = await scores.send(session, Update.of("combo"), headers=headers)
        replayed = await scores.send(session, update, headers=headers)
        assert slug(refused) == (429, "rate-limited")
        assert slug(replayed) == (401, "replayed-nonce")
        answers = (accepted, repeated, refused, replayed)
        assert {answer.json().get("traceId", "ab" * 16) for answer in answers} == {"ab" * 16}
        seen.append(
            [
                (
                    answer.status_code,
                    set(answer.json()),
                    {name: value for name, value in answer.headers.items() if name not in VARYING},
                )
                for answer in answers
            ]
        )
    assert seen[0] == seen[1]


VARYING = {"date", "content-length", "ratelimit"}


async def test_an_update_counts_though_its_client_has_gone(scores: Scores, database: Database) -> None:
    """Who closes before the answer finds it with the same actionId."""
    session, update = open_session(), Update.of("win")
    async with connection(scores) as (_, writer):
        writer.write(encoded(session, update))
        await writer.drain()
    while not await database.fetchval("SELECT count(*) FROM action_log"):
        await asyncio.sleep(0.01)
    assert (await scores.send(session, update.again())).headers["idempotent-replayed"] == "true"


async def test_nonces_are_remembered_over_lost_connections(stores: Stores, scores: Scores) -> None:
    """When Redis drops its clients the next updates go on, checked, and replays are still seen."""
    session, first = open_session(), Update.of("win")
    assert (await scores.send(session, first)).status_code == httpx.codes.OK
    for node in stores.redis.primaries():
        node.client_kill_filter(_type="normal", skipme=True)
    second = Update.of("win")
    assert (await scores.send(session, second)).status_code == httpx.codes.OK
    for update in (first, second):
        assert slug(await scores.send(session, update)) == (401, "replayed-nonce")
