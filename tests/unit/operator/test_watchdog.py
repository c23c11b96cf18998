"""Liveness follows the watch, not only the process."""

from __future__ import annotations

from podium_operator.watchdog import HANG_SECONDS, WATCH_LAG_SECONDS, Watchdog

KEY = ("games", "arcade")


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_watch_that_delivers_is_alive() -> None:
    """List and watch agree."""
    clock = Clock()
    dog = Watchdog(clock)
    dog.delivered(KEY, "1")
    dog.listed({KEY: "1"})
    assert dog.problems() == []


def test_a_watch_that_stays_behind_is_dead() -> None:
    """A change that the list shows and the watch does not bring for a minute."""
    clock = Clock()
    dog = Watchdog(clock)
    dog.delivered(KEY, "1")
    dog.listed({KEY: "2"})
    assert dog.problems() == []
    clock.now = WATCH_LAG_SECONDS + 1
    dog.listed({KEY: "2"})
    assert dog.problems() == ["the watch has not delivered changes of games/arcade"]


def test_a_watch_that_trails_busy_objects_is_alive() -> None:
    """The list is always a little newer, but the watch keeps delivering."""
    clock = Clock()
    dog = Watchdog(clock)
    for second in range(0, 300, 15):
        clock.now = second
        dog.delivered(KEY, str(second))
        dog.listed({KEY: str(second + 1)})
    assert dog.problems() == []


def test_a_late_delivery_heals() -> None:
    """The watch came back."""
    clock = Clock()
    dog = Watchdog(clock)
    dog.listed({KEY: "2"})
    clock.now = WATCH_LAG_SECONDS + 1
    dog.listed({KEY: "2"})
    dog.delivered(KEY, "2")
    assert dog.problems() == []


def test_a_hanging_loop_is_dead() -> None:
    """No list has ended for minutes."""
    clock = Clock()
    dog = Watchdog(clock)
    clock.now = HANG_SECONDS + 1
    assert len(dog.problems()) == 1
