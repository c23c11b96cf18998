"""Broadcasts as one pass over descriptors, with watchers that come and go between its steps."""

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.scoreboard.audience import Audience, Lane
from podium.scoreboard.representations import Published
from tests.unit.scoreboard.listed import Listed, top


class Piped(Listed):
    """Writes go to a socket; what it does not take is noted."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.rests: list[int] = []

    def send_rest(self, frame: bytes, written: int) -> None:
        self.rests.append(written)


class Pair:
    """A watcher and the other end of its socket."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        self.watcher = Piped(self.ours.fileno())

    def received(self) -> bytes:
        """What arrived since the last call."""
        try:
            return self.theirs.recv(1 << 20)
        except BlockingIOError:
            return b""


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Five connected watchers."""
    made = [Pair() for _ in range(5)]
    yield made
    for pair in made:
        pair.ours.close()
        pair.theirs.close()


PUBLISHED = Published(top(1), 1)
FRAME = PUBLISHED.frame_for(0)


def _pass(lane: Lane, most: int = 100) -> int:
    lane.begin()
    served = 0
    while lane.pending:
        served += lane.step(PUBLISHED, most, direct=True)
    lane.finish()
    return served


@pytest.mark.parametrize("most", [1, 2, 100])
def test_everyone_gets_the_frame_once(pairs: list[Pair], most: int) -> None:
    """In however many steps."""
    lane = Lane()
    for pair in pairs:
        lane.add(pair.watcher)
    assert _pass(lane, most) == 5
    assert [pair.received() for pair in pairs] == [FRAME] * 5


def test_a_socket_that_takes_nothing_delays_nobody(pairs: list[Pair]) -> None:
    """Full, closed by the peer, or gone: its watcher is told how much was written, the others get the frame."""
    lane = Lane()
    for pair in pairs:
        lane.add(pair.watcher)
    full, broken = pairs[1], pairs[3]
    try:
        while True:
            full.ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
    broken.theirs.close()
    _pass(lane)
    assert [pair.watcher.rests for pair in pairs] == [[], [0], [], [0], []]
    assert [pairs[index].received() for index in (0, 2, 4)] == [FRAME] * 3


def test_a_short_write_is_gone_on_with() -> None:
    """The watcher learns which part of the frame is still to be written."""
    pair = Pair()
    pair.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    large = Published(top(1), 1)
    large._frames[0] = b"y" * 10_000_000
    lane = Lane()
    lane.add(pair.watcher)
    lane.begin()
    lane.step(large, 1, direct=True)
    lane.finish()
    (written,) = pair.watcher.rests
    assert 0 < written < 10_000_000


def test_who_leaves_between_steps_gets_nothing_and_nobody_is_forgotten(pairs: list[Pair]) -> None:
    """A descriptor may belong to somebody else by then."""
    lane = Lane()
    for pair in pairs[:4]:
        lane.add(pair.watcher)
    lane.begin()
    lane.step(PUBLISHED, 2, direct=True)
    assert not lane.remove(pairs[0].watcher)
    assert lane.remove(pairs[2].watcher)
    lane.add(pairs[4].watcher)
    while lane.pending:
        lane.step(PUBLISHED, 2, direct=True)
    lane.finish()
    assert [pair.received() for pair in pairs] == [FRAME, FRAME, b"", FRAME, b""]
    assert _pass(lane) == 3
    assert [pair.received() for pair in pairs] == [b"", FRAME, b"", FRAME, FRAME]


def test_forms_of_a_frame_go_to_those_who_read_them(pairs: list[Pair]) -> None:
    """A lane for each form; watchers without a descriptor are asked to send."""
    audience, asked = Audience(), Listed()
    rows = Published(top(1), 1)
    rows._frames[15] = b"compressed"
    pairs[1].watcher.encoding = 15
    for watcher in (pairs[0].watcher, pairs[1].watcher, asked):
        audience.add(watcher)
    assert len(audience) == 3
    for lane, direct in audience.lanes():
        lane.begin()
        lane.step(rows, 10, direct=direct)
        lane.finish()
    assert [pair.received() for pair in pairs[:2]] == [FRAME, b"compressed"]
    assert asked.got == [(1, 1)]


ACTS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "begin", "step", "finish"]), st.integers(0, 7)), max_size=60
)


@given(ACTS)
def test_no_order_of_events_serves_a_watcher_twice_or_forgets_it(acts: list[tuple[str, int]]) -> None:
    """A pass serves exactly those who were there at its beginning and have not left before their turn."""
    lane, watchers = Lane(), [Listed() for _ in range(8)]
    there: set[int] = set()
    due: set[int] = set()
    running = False
    for act, number in acts:
        watcher = watchers[number]
        match act:
            case "add":
                lane.add(watcher)
                there.add(number)
            case "remove":
                assert lane.remove(watcher) == (running and number in due)
                there.discard(number)
                due.discard(number)
            case "begin" if not running:
                lane.begin()
                running, due = True, set(there)
                for one in watchers:
                    one.got.clear()
            case "step" if running and lane.pending:
                before = {index for index, one in enumerate(watchers) if one.got}
                served = lane.step(PUBLISHED, 1 + number, direct=False)
                now = {index for index, one in enumerate(watchers) if one.got} - before
                assert served == len(now)
                assert now <= due
                due -= now
            case "finish" if running:
                while lane.pending:
                    lane.step(PUBLISHED, 3, direct=False)
                for index in due:
                    assert len(watchers[index].got) == 1
                lane.finish()
                running, due = False, set()
        assert len(lane) == len(there)
        assert all((one in lane) == (index in there) for index, one in enumerate(watchers))
        assert all(len(one.got) <= 1 for one in watchers)


def test_written_descriptors_are_not_looked_at_again(pairs: list[Pair]) -> None:
    """An error in the middle leaves what was written before it counted."""
    lane = Lane()
    gone = Piped(os.open("/dev/null", os.O_RDONLY))
    os.close(gone.descriptor)
    for watcher in (pairs[0].watcher, gone, pairs[1].watcher):
        lane.add(watcher)
    assert _pass(lane) == 3
    assert gone.rests == [0]
    assert [pair.received() for pair in pairs[:2]] == [FRAME] * 2
