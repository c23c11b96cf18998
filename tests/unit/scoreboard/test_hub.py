"""The fan-out core, with watchers whose sockets are lists."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from podium.scoreboard import metrics
from podium.scoreboard.hub import Hub
from podium.scoreboard.watcher import Watcher
from tests.unit.scoreboard.counting import counted
from tests.unit.scoreboard.listed import Listed, top


@contextlib.asynccontextmanager
async def working(hub: Hub) -> AsyncIterator[None]:
    """The hub's broadcasts run inside the block."""
    task = asyncio.create_task(hub.broadcast_loop())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def settled(watcher: Watcher, version: int) -> None:
    """Wait until a watcher has a version."""
    assert isinstance(watcher, Listed)
    async with asyncio.timeout(5):
        while (1, version) not in watcher.got:
            await asyncio.sleep(0)


async def test_a_watcher_gets_the_present_top_and_each_change() -> None:
    """Who comes later begins with the newest."""
    hub, first, second = Hub(tick=0), Listed(), Listed()
    hub.join(first, ["default"])
    async with working(hub):
        hub.offer(top(1))
        await settled(first, 1)
        hub.join(second, ["default"])
        hub.offer(top(2))
        await settled(second, 2)
    assert first.got == second.got == [(1, 1), (1, 2)]


async def test_changes_within_a_tick_are_conflated() -> None:
    """The first goes out at once, of the rest only the last."""
    hub, watcher = Hub(tick=0.05), Listed()
    hub.join(watcher, ["default"])
    conflated = counted(metrics.CONFLATED)
    async with working(hub):
        hub.offer(top(1))
        await settled(watcher, 1)
        for version in range(2, 10):
            hub.offer(top(version))
        await settled(watcher, 9)
    assert watcher.got == [(1, 1), (1, 9)]
    assert counted(metrics.CONFLATED) == conflated + 7


async def test_new_watchers_get_a_revised_top_and_the_others_nothing() -> None:
    """Somebody was banned and no newer snapshot has come; one of another age revises nothing."""
    hub, first, second, third = Hub(tick=0), Listed(), Listed(), Listed()
    hub.join(first, ["default"])
    async with working(hub):
        hub.offer(top(1, users=["ann", "ben"]))
        await settled(first, 1)
        hub.revise(top(1, users=["ben"]))
        hub.join(second, ["default"])
        hub.offer(top(2, users=["cy", "ben"]))
        await settled(second, 2)
        hub.revise(top(1, users=["ann", "ben"]))
        hub.join(third, ["default"])
    assert first.got == second.got == [(1, 1), (1, 2)]
    assert third.users == ["cy", "ben"]


async def test_what_a_revised_top_shows() -> None:
    """Its own places."""
    hub, first, second = Hub(tick=0), Listed(), Listed()
    hub.join(first, ["default"])
    async with working(hub):
        hub.offer(top(1, users=["ann", "ben"]))
        await settled(first, 1)
        hub.revise(top(1, users=["ben"]))
        hub.join(second, ["default"])
    assert (first.users, second.users) == (["ann", "ben"], ["ben"])


async def test_a_busy_watcher_skips_to_the_newest() -> None:
    """Nothing is written to a full socket; when it has room, it gets one snapshot, and no other is delayed."""
    hub, slow, quick = Hub(tick=0), Listed(), Listed()
    hub.join(slow, ["default"])
    hub.join(quick, ["default"])
    async with working(hub):
        hub.offer(top(1))
        await settled(slow, 1)
        hub.blocked(slow)
        for version in (2, 3, 4):
            hub.offer(top(version))
            await settled(quick, version)
        hub.subscribe(slow, ["default"])
        assert slow.got == [(1, 1)]
        hub.drained(slow)
    assert slow.got == [(1, 1), (1, 4)]
    assert quick.got == [(1, version) for version in (1, 2, 3, 4)]


async def test_unsubscribed_boards_are_not_sent() -> None:
    """Boards are apart; subscribing again is answered."""
    hub, watcher, other = Hub(tick=0), Listed(), Listed()
    hub.join(watcher, ["default"])
    hub.join(other, ["default"])
    async with working(hub):
        hub.offer(top(1))
        await settled(watcher, 1)
        hub.unsubscribe(watcher, ["default"])
        hub.offer(top(2))
        await settled(other, 2)
        assert watcher.got == [(1, 1)]
        hub.subscribe(watcher, ["default"])
        assert watcher.got == [(1, 1), (1, 2)]


ACTS = st.lists(st.sampled_from(["offer", "block", "drain", "unsubscribe", "subscribe", "let"]), max_size=40)


@given(ACTS)
def test_no_order_of_events_shows_a_watcher_an_older_top(acts: list[str]) -> None:
    """Versions only grow, are repeated only by ``subscribe``, and the last one arrives in the end."""

    async def play() -> None:
        hub, watcher = Hub(tick=0), Listed()
        hub.join(watcher, ["default"])
        version, answers = 0, 0
        async with working(hub):
            for act in [*acts, "drain", "subscribe", "offer"]:
                match act:
                    case "offer":
                        version += 1
                        hub.offer(top(version))
                    case "block":
                        hub.blocked(watcher)
                    case "drain":
                        hub.drained(watcher)
                    case "unsubscribe":
                        hub.unsubscribe(watcher, ["default"])
                    case "subscribe":
                        answers += 1
                        hub.subscribe(watcher, ["default"])
                    case _:
                        await asyncio.sleep(0)
            await settled(watcher, version)
        assert watcher.got == sorted(watcher.got)
        assert len(watcher.got) - len(set(watcher.got)) <= answers

    asyncio.run(play())
