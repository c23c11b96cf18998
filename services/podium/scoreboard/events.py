"""The event ``podium.events.score.updated`` as the projector reads it. Pure."""

from datetime import datetime
from typing import Annotated

import msgspec

from podium.scoreboard.domain import SCORE_LIMIT, micros, timestamp

MICROS_LIMIT = 10**16
"""Times in a ranking have 16 digits, so they end in the year 2286 (Unix microseconds)."""

_Score = Annotated[int, msgspec.Meta(gt=-SCORE_LIMIT, lt=SCORE_LIMIT)]
_Version = Annotated[int, msgspec.Meta(ge=0, lt=SCORE_LIMIT)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class ScoreUpdate(msgspec.Struct, frozen=True, rename="camel"):
    """A user's absolute state on a board; of two, the one with the larger ``version`` is true."""

    board: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    user_id: Annotated[str, msgspec.Meta(min_length=1)]
    username: str
    score: _Score
    version: _Version
    reached_at: _Moment
    hidden: bool = False
    accepted_at: _Moment | None = None
    traceparent: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.reached_micros < MICROS_LIMIT:
            raise ValueError("reachedAt is out of range")
        if self.accepted_at is not None and not 0 <= micros(self.accepted_at) < MICROS_LIMIT:
            raise ValueError("acceptedAt is out of range")

    @property
    def reached_micros(self) -> int:
        """When the score was reached, in Unix microseconds."""
        return micros(self.reached_at)

    @property
    def updated_at(self) -> str:
        """When the change was decided, RFC 3339 with six decimals."""
        return timestamp(self.accepted_at or self.reached_at)


class ScoreUpdated(msgspec.Struct, frozen=True, rename="camel"):
    """One commit: the updates it made."""

    updates: tuple[ScoreUpdate, ...]


_decoder = msgspec.json.Decoder(ScoreUpdated)


def decode_event(data: bytes) -> ScoreUpdated:
    """The event in a message. Raises ``msgspec.DecodeError`` or ``msgspec.ValidationError`` for anything else."""
    return _decoder.decode(data)
