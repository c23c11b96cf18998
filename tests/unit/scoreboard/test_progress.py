"""How a projector notices that Redis went back to an older copy."""

from podium.scoreboard.projector.progress import Progress


def test_a_later_state_is_fine() -> None:
    """Versions grow, and begin anew with a larger epoch."""
    progress = Progress()
    assert all(progress.saw(*age) for age in ((1, 1), (1, 1), (1, 5), (2, 1)))


def test_an_older_state_is_noticed() -> None:
    """A smaller version of the same epoch, or a smaller epoch."""
    progress = Progress()
    progress.saw(2, 5)
    assert not progress.saw(2, 4)
    assert not progress.saw(1, 9)


def test_a_lost_write_is_noticed() -> None:
    """The epoch counts fewer writes than were made."""
    progress = Progress()
    assert progress.lost({(1, 0): 1}) == 0
    assert progress.lost({(1, 0): 2}) == 0
    assert progress.lost({(1, 0): 2}) == 1


def test_a_repeated_write_is_harmless() -> None:
    """A client that repeats a call whose answer was lost counts twice."""
    progress = Progress()
    assert progress.lost({(1, 0): 2}) == 0
    assert progress.lost({(1, 0): 3}) == 0


def test_epochs_are_counted_apart() -> None:
    """While one is built, each write goes to two."""
    progress = Progress()
    assert progress.lost({(1, 0): 7}) == 0
    assert progress.lost({(1, 0): 8, (2, 0): 1}) == 0
    assert progress.saw(2, 1)
    assert progress.lost({(2, 0): 2}) == 0


def test_the_latest_epoch_that_lost_a_write_is_told() -> None:
    """A rebuild must be later than it."""
    progress = Progress()
    progress.lost({(1, 0): 7, (2, 0): 3, (2, 1): 3})
    assert progress.lost({(1, 0): 2, (2, 0): 4, (2, 1): 2}) == 2
