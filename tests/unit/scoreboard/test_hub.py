"""The fan-out core, with watchers whose sockets are lists."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.scoreboard.domain import Snapshot
from podium.scoreboard.hub import Hub
from podium.scoreboard.representations import Published
from podium.scoreboard.watcher import Watcher


class Listed(Watcher):
    """Keeps what it is sent."""

    kind = "test"

    def __init__(self) -> None:
        super().__init__(time.monotonic())
        self.got: list[tuple[int, int]] = []
        self.beats = 0
        self.closed: tuple[int, str] | None = None
        self.aborted = False

    @property
    def is_open(self) -> bool:
        return self.closed is None and not self.aborted

    def send(self, published: Published) -> None:
        self.got.append(published.snapshot.age)

    def beat(self, heartbeat: bytes) -> None:
        self.beats += 1

    def close(self, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        self.closed = code, reason

    def abort(self) -> None:
        self.aborted = True


def top(version: int, board: str = "default") -> Snapshot:
    """A snapshot of epoch 1."""
    return Snapshot(board, 1, version, (), "2026-01-01T00:00:00.000000Z")


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
    async with working(hub):
        hub.offer(top(1))
        await settled(watcher, 1)
        for version in range(2, 10):
            hub.offer(top(version))
        await settled(watcher, 9)
    assert watcher.got == [(1, 1), (1, 9)]


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


def test_the_sweep_ends_what_must_end() -> None:
    """4001 for an expired token, 4008 for the slow, the silent are cut; the others stay."""
    hub = Hub(heartbeat=25, slow=10)
    fine, expired, slow, silent = Listed(), Listed(), Listed(), Listed()
    for watcher in (fine, expired, slow, silent):
        hub.join(watcher, ["default"])
    now = time.monotonic()
    hub.authenticate(fine, "s1", 2000.0)
    hub.authenticate(expired, "s2", 1000.0)
    slow.busy_since = now - 10.1
    silent.last_frame = now - 50.1
    hub.sweep(now, 1000.0)
    assert (fine.closed, fine.aborted) == (None, False)
    assert expired.closed is not None
    assert expired.closed[0] == 4001
    assert slow.closed is not None
    assert slow.closed[0] == 4008
    assert silent.aborted
    assert len(hub) == 1


def test_a_revoked_session_takes_its_watchers_with_it() -> None:
    """Only those of that session; a renewed watcher belongs to the new one."""
    hub = Hub()
    one, other = Listed(), Listed()
    for watcher in (one, other):
        hub.join(watcher, ["default"])
        hub.authenticate(watcher, "old", 2000.0)
    hub.authenticate(other, "new", 2000.0)
    hub.revoke("old")
    assert one.closed == (4001, "the session was revoked")
    assert other.closed is None


async def test_a_heartbeat_goes_to_all_but_the_busy() -> None:
    """What waits for a busy one says the same."""
    hub, idle, busy = Hub(), Listed(), Listed()
    hub.join(idle, ["default"])
    hub.join(busy, ["default"])
    hub.blocked(busy)
    await hub.beat()
    assert (idle.beats, busy.beats) == (1, 0)


@pytest.mark.parametrize("watchers", [0, 1, 50])
async def test_a_drain_closes_everyone(watchers: int) -> None:
    """Each with 1001 and a time to come back."""
    hub, all_of_them = Hub(), [Listed() for _ in range(watchers)]
    for watcher in all_of_them:
        hub.join(watcher, ["default"])
    await hub.drain(0.05)
    assert all(one.closed and one.closed[0] == 1001 and "retryAfterMs" in one.closed[1] for one in all_of_them)
    assert len(hub) == 0


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
