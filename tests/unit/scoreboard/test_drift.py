"""What counts as drift, and what is an update on its way."""

import pytest

from podium.scoreboard.audit_store import Held
from podium.scoreboard.domain import Row, row_of
from podium.scoreboard.projector.drift import has_drifted


def row(version: int, score: int = 5, *, hidden: bool = False) -> Row:
    """Ann's row."""
    return row_of("ann", "Ann", score, version, 1, hidden)


def held(of: Row) -> Held:
    """What a ranking holds that has this row."""
    return Held(of.value, None if of.score is False else of.score)


NOTHING = Held(None, None)


@pytest.mark.parametrize(
    ("before", "holds", "after", "drifted"),
    [
        (row(3), held(row(3)), row(3), False),
        (row(3), held(row(4, 9)), row(5, 11), False),  # two updates came meanwhile, one is projected
        (None, NOTHING, row(1), False),  # a new user, on the way
        (row(3), held(row(2)), row(3), True),  # an update was lost
        (row(3), NOTHING, row(3), True),  # a user was lost
        (row(3), held(row(4)), row(3), True),  # nobody committed this
        (None, held(row(1)), None, True),  # nobody knows this user
        (row(3), held(row(3, 6)), row(3), True),  # a wrong score
        (row(3), Held(row(3).value, None), row(3), True),  # no place
        (row(3, hidden=True), held(row(3, hidden=True)), row(3, hidden=True), False),
        (row(3, hidden=True), Held(row(3, hidden=True).value, -5), row(3, hidden=True), True),  # hidden, yet shown
    ],
)
def test_drift(before: Row | None, holds: Held, after: Row | None, drifted: bool) -> None:
    """At least as new as what was committed before, at most as new as what is committed now, and the same."""
    assert has_drifted("ann", _rows(before), holds, _rows(after)) is drifted


def _rows(one: Row | None) -> dict[str, Row]:
    return {} if one is None else {"ann": one}
