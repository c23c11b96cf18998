"""What actions are worth."""

from typing import Any

import pytest

from podium.common.rules import Action, Board, PointsFrom
from podium.scores.domain_rules import Award, Refusal, Rules

BOARDS = (Board(name="default"), Board(name="best", operator="Best"))


def rules(**action: Any) -> Rules:
    return Rules(BOARDS, [Action(type="a", **action)], [])


def test_points_and_boards_of_an_action() -> None:
    """Without boards an action counts on all of them, in the order of the spec."""
    award = rules(points=10).assess("a", None)
    assert isinstance(award, Award)
    assert (award.points, [board.name for board in award.boards]) == (10, ["default", "best"])


@pytest.mark.parametrize("value", [0, 7, 7.0, 100])
def test_points_from_data(value: float) -> None:
    """An integer within its bounds, in either spelling, is the points."""
    award = rules(points_from=PointsFrom(field="p", max=100)).assess("a", {"p": value})
    assert isinstance(award, Award)
    assert award.points == value
    assert isinstance(award.points, int)


@pytest.mark.parametrize(
    "data", [None, [], {}, {"p": -1}, {"p": 101}, {"p": 1.5}, {"p": True}, {"p": "1"}, {"p": None}]
)
def test_bad_points_are_refused(data: Any) -> None:
    """The client never gets more, or other, than the bounds allow."""
    refusal = rules(points_from=PointsFrom(field="p", max=100)).assess("a", data)
    assert isinstance(refusal, Refusal)
    assert refusal.slug == "invalid-action-data"
    assert refusal.errors[0][0] == "/actionMetadata/additionalData/p"


def test_data_must_fit_the_schema() -> None:
    """Errors of the schema come with JSON pointers into the body."""
    schema = {"type": "object", "properties": {"list": {"items": {"type": "integer"}}}, "required": ["level"]}
    refusal = rules(points=1, schema=schema).assess("a", {"list": [1, "x"]})
    assert isinstance(refusal, Refusal)
    assert {pointer for pointer, _ in refusal.errors} == {
        "/actionMetadata/additionalData",
        "/actionMetadata/additionalData/list/1",
    }


def test_an_unknown_action_is_refused() -> None:
    """Only the resource says which actions there are."""
    refusal = rules(points=1).assess("b", None)
    assert isinstance(refusal, Refusal)
    assert refusal.slug == "unknown-action"


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"points": 1, "points_from": PointsFrom(field="p")},
        {"points": 1, "boards": ("nowhere",)},
        {"points": 1, "schema": {"type": "nonsense"}},
        {"points": 1, "schema": {"$ref": "http://127.0.0.1:9/schema.json"}},
    ],
)
def test_rules_that_cannot_work_are_refused_at_the_start(action: dict[str, Any]) -> None:
    """A wrong rule names its action; a schema never makes the service fetch a URL."""
    with pytest.raises(ValueError, match="action 'a'"):
        rules(**action)
