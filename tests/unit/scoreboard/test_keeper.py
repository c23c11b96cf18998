"""When watchers hear from us, and when they end."""

import time

import pytest

from podium.scoreboard import metrics
from podium.scoreboard.hub import Hub
from podium.scoreboard.keeper import TURNS, Keeper
from tests.unit.scoreboard.counting import counted
from tests.unit.scoreboard.listed import Listed

HEARTBEAT, SLOW = 25.0, 10.0


def _keeper(*watchers: Listed) -> Keeper:
    keeper = Keeper(Hub(), heartbeat=HEARTBEAT, slow=SLOW)
    for watcher in watchers:
        keeper.join(watcher, "default")
    return keeper


def test_expired_slow_and_silent_watchers_end() -> None:
    """4001 for an expired token, 4008 for the slow; the others stay."""
    fine, expired, slow = Listed(), Listed(), Listed()
    keeper = _keeper(fine, expired, slow)
    now = time.monotonic()
    keeper.authenticate(fine, "s1", 2000.0)
    keeper.authenticate(expired, "s2", 1000.0)
    keeper.hub.blocked(slow)
    keeper.turn(now + SLOW + 1, 1000.0)
    assert (fine.closed, fine.aborted) == (None, False)
    assert expired.closed is not None
    assert expired.closed[0] == 4001
    assert slow.closed is not None
    assert slow.closed[0] == 4008
    assert len(keeper.hub) == 1


def test_a_renewed_token_counts_from_then_on() -> None:
    """The old one's end is no end."""
    watcher = Listed()
    keeper = _keeper(watcher)
    keeper.authenticate(watcher, "s", 1000.0)
    keeper.authenticate(watcher, "s", 2000.0)
    keeper.turn(time.monotonic(), 1999.0)
    assert watcher.closed is None
    keeper.turn(time.monotonic(), 2000.0)
    assert watcher.closed == (4001, "the token expired")


def test_each_watcher_is_beaten_once_in_a_heartbeat() -> None:
    """The wheel comes to everyone, whenever they joined; a busy one has snapshots waiting, which say the same."""
    early, late, busy = Listed(), Listed(), Listed()
    keeper = _keeper(early, busy)
    now = time.monotonic()
    keeper.hub.blocked(busy)
    for _ in range(TURNS // 3):
        keeper.turn(now, 0.0)
    keeper.join(late, "default")
    for _ in range(TURNS):
        keeper.turn(now, 0.0)
    assert (early.beats, late.beats, busy.beats) == (1, 1, 0)


@pytest.mark.parametrize("joined", [0, 7, TURNS - 1])
def test_the_silent_are_cut_within_two_heartbeats(joined: int) -> None:
    """And no turn later; who gave a sign stays. Operators see it as an abnormal end."""
    keeper = _keeper()
    cut = counted(metrics.CLOSED.labels("1006"))
    begin, step = time.monotonic(), HEARTBEAT / TURNS
    for turn in range(joined):
        keeper.turn(begin + turn * step, 0.0)
    silent, alive = Listed(), Listed()
    last = silent.last_frame = alive.last_frame = begin + joined * step
    for watcher in (silent, alive):
        keeper.join(watcher, "default")
    now = last
    while not silent.aborted:
        now += step
        alive.last_frame = now
        keeper.turn(now, 0.0)
        assert now <= last + 2 * HEARTBEAT + step
    assert now >= last + 2 * HEARTBEAT
    assert not alive.aborted
    assert len(keeper.hub) == 1
    assert counted(metrics.CLOSED.labels("1006")) == cut + 1


def test_a_revoked_session_takes_its_watchers_with_it() -> None:
    """Only those of that session; a renewed watcher belongs to the new one."""
    one, other = Listed(), Listed()
    keeper = _keeper(one, other)
    for watcher in (one, other):
        keeper.authenticate(watcher, "old", 2000.0)
    keeper.authenticate(other, "new", 2000.0)
    keeper.revoke("old")
    assert one.closed == (4001, "the session was revoked")
    assert other.closed is None


def test_who_has_left_is_forgotten() -> None:
    """No beat, no expiry, no revocation finds it."""
    gone = Listed()
    keeper = _keeper(gone)
    keeper.authenticate(gone, "s", 1000.0)
    keeper.leave(gone)
    keeper.revoke("s")
    for _ in range(TURNS):
        keeper.turn(time.monotonic() + 3 * HEARTBEAT, 3000.0)
    assert (gone.closed, gone.aborted, gone.beats) == (None, False, 0)


@pytest.mark.parametrize("watchers", [0, 1, 50])
async def test_a_drain_closes_everyone(watchers: int) -> None:
    """Each with 1001 and a time to come back."""
    all_of_them = [Listed() for _ in range(watchers)]
    keeper = _keeper(*all_of_them)
    await keeper.drain(0.05, per_second=100.0)
    assert all(one.closed and one.closed[0] == 1001 and "retryAfterMs" in one.closed[1] for one in all_of_them)
    assert len(keeper.hub) == 0


@pytest.mark.parametrize(
    ("seconds", "per_second", "expected"),
    [(10.0, 200.0, 0.1), (0.1, 1.0, 0.1)],
    ids=["as many a second as said", "more, where the time is short"],
)
async def test_a_drain_has_its_pace(seconds: float, per_second: float, expected: float) -> None:
    """The last watcher goes when it is due: neither at once nor after the time is over."""
    keeper = _keeper(*(Listed() for _ in range(20)))
    started = time.monotonic()
    await keeper.drain(seconds, per_second)
    # The nineteenth interval is the last; timers are up to 5 ms early, and late on a busy machine.
    assert expected * 0.95 - 0.006 <= time.monotonic() - started < 5.0
