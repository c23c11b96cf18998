"""Boards, actions and tiers as the services read them from the resource's spec."""

import pytest
from pydantic import ValidationError

from podium.common.rules import parse_actions, parse_boards, parse_tiers, tier_of


def test_no_board_means_one_named_default() -> None:
    """A Scoreboard without boards has one board ``default`` that shows ten entries and adds points."""
    (board,) = parse_boards("[]")
    assert (board.name, board.top, board.operator) == ("default", 10, "Increment")


def test_fields_are_spelled_as_in_the_resource() -> None:
    """Actions come in the resource's camelCase form."""
    text = """[{"type":"race","pointsFrom":{"field":"time","min":1,"max":9},"maxPerMinute":3,"cooldownSeconds":5,
               "boards":["laps"],"schema":{"type":"object"}}]"""
    (action,) = parse_actions(text)
    assert action.points_from is not None
    assert (action.points_from.field, action.points_from.min, action.points_from.max) == ("time", 1, 9)
    assert (action.max_per_minute, action.cooldown_seconds, action.boards) == (3, 5, ("laps",))
    assert action.schema_ == {"type": "object"}


@pytest.mark.parametrize("name", ["", "Upper", "a b", "a.b", "-a", "a" * 64])
def test_a_board_name_is_a_label(name: str) -> None:
    """A board's name goes into subjects and keys, so it is a DNS label."""
    with pytest.raises(ValidationError):
        parse_boards(f'[{{"name":"{name}"}}]')


@pytest.mark.parametrize(
    ("score", "tier"), [(-1, None), (0, "bronze"), (99, "bronze"), (100, "silver"), (10**15, "gold")]
)
def test_the_tier_is_the_highest_that_is_reached(score: int, tier: str | None) -> None:
    """Tiers may be listed in any order; a tier begins at its ``minScore``."""
    listed = '[{"name":"gold","minScore":1000},{"name":"bronze","minScore":0},{"name":"silver","minScore":100}]'
    assert tier_of(parse_tiers(listed), score) == tier


def test_without_tiers_there_is_none() -> None:
    """No tiers, no tier."""
    assert tier_of((), 5) is None
