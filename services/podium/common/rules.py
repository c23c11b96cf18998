"""The rules of a Scoreboard: boards, actions and tiers, in the very form of the resource's spec. Pure."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from podium.common.schedule import checked

MAX_SCORE = 10**15
"""Points. Scores beyond this are refused; it is below 2**53, so a double still holds each integer exactly."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Operator = Literal["Increment", "Best", "Latest"]


class _Rule(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class Board(_Rule):
    """A ranking. ``top`` is the number of entries pushed to watchers.

    ``reset`` is the cron expression at whose times a new season begins; of the ended ones the newest ``retain_seasons``
    are kept.
    """

    name: Name
    top: int = Field(default=10, ge=1, le=1000)
    operator: Operator = "Increment"
    reset: Annotated[str, AfterValidator(checked)] | None = None
    retain_seasons: int = Field(default=10, ge=0)
    shards: int = Field(default=1, ge=1, le=256)


class PointsFrom(_Rule):
    """Points taken from a field of ``additionalData``, bounded by ``min`` and ``max`` (both included)."""

    field: str
    min: int = 0
    max: int = MAX_SCORE


class Action(_Rule):
    """What a client may report, and what the server makes of it. ``boards`` empty means all boards."""

    type: str
    points: int | None = None
    points_from: PointsFrom | None = None
    boards: tuple[str, ...] = ()
    max_per_minute: int | None = Field(default=None, ge=1)
    cooldown_seconds: float = Field(default=0, ge=0)
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class Tier(_Rule):
    """A named level that begins at ``min_score`` points."""

    name: str
    min_score: int


_BOARDS = TypeAdapter(tuple[Board, ...])
_ACTIONS = TypeAdapter(tuple[Action, ...])
_TIERS = TypeAdapter(tuple[Tier, ...])


def parse_boards(text: str) -> tuple[Board, ...]:
    """Boards from JSON text; one board ``default`` where none is given. Raises ``pydantic.ValidationError``."""
    return _BOARDS.validate_json(text) or (Board(name="default"),)


def parse_actions(text: str) -> tuple[Action, ...]:
    """Actions from JSON text. Raises ``pydantic.ValidationError``."""
    return _ACTIONS.validate_json(text)


def parse_tiers(text: str) -> tuple[Tier, ...]:
    """Tiers from JSON text, lowest first. Raises ``pydantic.ValidationError``."""
    return tuple(sorted(_TIERS.validate_json(text), key=lambda tier: tier.min_score))


def tier_of(tiers: Sequence[Tier], score: int) -> str | None:
    """Name of the highest tier that ``score`` points reach, or None below the lowest."""
    reached = [tier for tier in tiers if tier.min_score <= score]
    return max(reached, key=lambda tier: tier.min_score).name if reached else None
