"""The public JSON of the scoreboard as the OpenAPI description shows it; answers are made from ``domain``."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _decimal(value: object) -> object:
    """Only plain decimal digits: ``int`` alone would take "1_0", " 1" and "1.0" as well."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        raise ValueError("must be a whole number of plain digits")
    return value


Count = Annotated[int, BeforeValidator(_decimal)]
BoardName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="name of the board")]


MAX_AROUND = 50
"""Neighbours on each side that a user's place may be asked for with."""


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScoreboardQuery(_Query):
    """Query of the scoreboard."""

    board: BoardName = "default"
    limit: Annotated[Count | None, Field(ge=1, le=1000, description="places; default: the board's `top`")] = None


class SeasonListQuery(_Query):
    """Query of a board's seasons."""

    board: BoardName = "default"


class SeasonQuery(_Query):
    """Query of an ended season."""

    board: BoardName = "default"
    limit: Annotated[Count | None, Field(ge=1, le=1000, description="places; default: the board's `top`")] = None


class StandingQuery(_Query):
    """Query of a user's rank."""

    board: BoardName = "default"
    around: Annotated[Count, Field(ge=0, le=MAX_AROUND, description="neighbours on each side")] = 5


class StreamQuery(_Query):
    """Query of the event stream."""

    board: BoardName = "default"


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RankingEntry(_Answer):
    """One place: ordered by score, then by who reached it first, then by user id."""

    user_id: str
    username: str
    score: int
    rank: Annotated[int, Field(ge=1, description="1, 2, 3 … without gaps")]


class ScoreboardAnswer(_Answer):
    """The first places of a board."""

    rankings: list[RankingEntry]
    last_updated: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    board: str
    epoch: Annotated[int, Field(description="grows when the ranking is built anew")]
    version: Annotated[int, Field(description="grows within an epoch whenever the top changes")]


class StandingAnswer(_Answer):
    """A user's place, with the places around it (the user's own included)."""

    user_id: str
    username: str
    score: int
    rank: Annotated[int, Field(ge=1)]
    percentile: Annotated[float, Field(ge=0, le=100, description="percentage of the other players who are behind")]
    tier: Annotated[str | None, Field(description="highest tier reached; null below the lowest")]
    players: Annotated[int, Field(ge=1, description="players on the board")]
    neighbours: list[RankingEntry]
    last_updated: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    board: str
    epoch: int
    version: int


Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Players = Annotated[
    int | None, Field(description="users with a score in the season; null for the moments until all are archived")
]


class RunningSeason(_Answer):
    """The season that runs."""

    season: Annotated[int, Field(ge=1)]
    started_at: Annotated[Moment | None, Field(description="null for a board's first season")]
    ends_at: Annotated[Moment | None, Field(description="when the schedule ends it; null without a schedule")]


class EndedSeason(_Answer):
    """A season that has ended."""

    season: Annotated[int, Field(ge=1)]
    started_at: Annotated[Moment | None, Field(description="null for a board's first season")]
    ended_at: Moment
    players: Players


class SeasonListAnswer(_Answer):
    """The seasons of a board that can be read, newest first."""

    board: str
    current: RunningSeason
    seasons: list[EndedSeason]


class SeasonAnswer(EndedSeason):
    """The first places of an ended season."""

    board: str
    rankings: list[RankingEntry]
