"""How fast a client may speak."""

from hypothesis import given
from hypothesis import strategies as st

from podium.scoreboard.pace import BURST, FRAMES_PER_SECOND, after_frame, is_flood, is_too_fast

TIMES = st.floats(min_value=1.0, max_value=1e7)


def said(due: float, frames: int, now: float) -> tuple[float, int, int]:
    """``due`` after so many frames at one moment; how many were refused, and how many were a flood."""
    refused = floods = 0
    for _ in range(frames):
        due = after_frame(due, now)
        refused += is_too_fast(due, now)
        floods += is_flood(due, now)
    return due, refused, floods


@given(TIMES, st.integers(0, 5 * BURST))
def test_a_burst_is_heard_the_next_refused_and_then_it_is_a_flood(now: float, frames: int) -> None:
    """Exactly ``BURST`` and twice ``BURST``, whatever the clock shows."""
    _, refused, floods = said(0.0, frames, now)
    assert refused == max(0, frames - BURST)
    assert floods == max(0, frames - 2 * BURST)


@given(TIMES)
def test_a_steady_pace_is_never_refused(begin: float) -> None:
    """After a whole burst, one frame each tenth of a second may go on for ever."""
    due, _, _ = said(0.0, BURST, begin)
    for number in range(1, 200):
        now = begin + number / FRAMES_PER_SECOND
        due = after_frame(due, now)
        assert not is_too_fast(due, now)


@given(TIMES, st.integers(1, 2 * BURST))
def test_who_waits_is_heard_again(begin: float, pause: int) -> None:
    """Each tenth of a second gives one frame back, and never more than a burst."""
    due, _, _ = said(0.0, BURST, begin)
    _, refused, _ = said(due, 3 * BURST, begin + pause / FRAMES_PER_SECOND)
    assert refused == 3 * BURST - min(pause, BURST)
