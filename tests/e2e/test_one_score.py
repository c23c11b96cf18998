"""The main job: a signed update changes the top, and watchers on different pods see it."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.e2e.play import raise_someone_in_the_top
from tests.support.client import Client
from tests.support.instance import Instance
from tests.support.watcher import Message, Watcher, watch


def _version(snapshot: Message) -> tuple[int, int]:
    return snapshot["epoch"], snapshot["version"]


@pytest.fixture
async def watchers_of_each_pod(instance: Instance) -> AsyncIterator[list[Watcher]]:
    """A watcher on every scoreboard pod, and one through the gateway."""
    async with contextlib.AsyncExitStack() as stack:
        pods = instance.pods("scoreboard")
        assert len(pods) >= 2, "the sample runs at least two scoreboard pods"
        ports = [stack.enter_context(instance.port_forward(f"pod/{pod['metadata']['name']}")) for pod in pods]
        urls = [instance.ws_url, *(f"ws://127.0.0.1:{port}/ws/scoreboard" for port in ports)]
        yield [await stack.enter_async_context(watch(url)) for url in urls]


async def test_an_update_reaches_watchers_on_every_pod(client: Client, watchers_of_each_pod: list[Watcher]) -> None:
    """Whoever watches, on whatever pod, sees the new score, and all see the same snapshot."""
    for watcher in watchers_of_each_pod:
        assert (await watcher.message("snapshot"))["board"] == "default"
    user_id, score = await raise_someone_in_the_top(client)
    snapshots = [await watcher.score_of(user_id, score) for watcher in watchers_of_each_pod]
    version, agreed = max(((_version(each), each["rankings"]) for each in snapshots), key=lambda pair: pair[0])
    for watcher in watchers_of_each_pod:
        await watcher.until(lambda w: _version(w.newest["default"]) >= version)
        if _version(watcher.newest["default"]) == version:
            assert watcher.newest["default"]["rankings"] == agreed


async def test_reads_agree_with_watchers(client: Client, instance: Instance) -> None:
    """GET shows what the WebSocket shows."""
    async with watch(instance.ws_url) as watcher:
        user_id, score = await raise_someone_in_the_top(client)
        seen = await watcher.score_of(user_id, score)
        top = await client.top()
        assert (top["epoch"], top["version"]) >= (seen["epoch"], seen["version"])
        if top["version"] == seen["version"]:
            assert top["rankings"] == seen["rankings"]
            assert top["lastUpdated"] == seen["lastUpdated"]


async def test_the_answer_says_what_was_counted(client: Client) -> None:
    """The fields of the mission, with the points that the server decided."""
    session = await client.open_session(username="Ann")
    answer = await client.update(session, "win", action_id="first")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {
        *("actionId", "userId", "username", "score", "scoreIncrease", "totalActions", "tier", "lastUpdated")
    }
    assert body | {"lastUpdated": None} == {
        "actionId": "first",
        "userId": session.user_id,
        "username": "Ann",
        "score": 10,
        "scoreIncrease": 10,
        "totalActions": 1,
        "tier": "bronze",
        "lastUpdated": None,
    }
    again = (await client.update(session, "bonus", data={"level": 3})).json()
    assert (again["score"], again["scoreIncrease"], again["totalActions"]) == (35, 25, 2)
