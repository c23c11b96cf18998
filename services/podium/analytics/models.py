"""Answers of the analytics service."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """JSON in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Activity(Model):
    """What happened in a window that ends now, to the length of an analytics interval."""

    window: Literal["5m", "1h", "24h"]
    updates: int
    points: int
    active_users: int
    updates_per_second: float


class TierCount(Model):
    """Users in a tier."""

    name: str
    min_score: int
    users: int


class Summary(Model):
    """A board at a glance."""

    board: str
    as_of: datetime
    total_users: int = Field(description="users in the ranking")
    top_score: int | None
    mean_score: int | None
    last_updated: datetime | None
    activity: list[Activity]
    tiers: list[TierCount]


class SeriesPoint(Model):
    """One window; what describes the state was taken at its end, and is empty while `closed` is false."""

    window_start: datetime
    window_end: datetime
    updates: int
    active_users: int = Field(description="distinct users")
    points: int
    total_users: int
    top_score: int | None
    mean_score: int | None
    turnover: int = Field(description="users who entered the top")
    closed: bool


class Series(Model):
    """ScoreboardAnalytics over time; at most 5000 points."""

    board: str
    granularity: Literal["interval", "hour", "day"]
    points: list[SeriesPoint]


class Bucket(Model):
    """Users whose score lies in a range, both bounds included."""

    from_score: int
    to_score: int
    users: int


class Quantiles(Model):
    """Scores that half, nine tenths, 99 hundredths of the users do not exceed."""

    p50: int | None
    p90: int | None
    p99: int | None


class Distribution(Model):
    """Users by score."""

    board: str
    buckets: list[Bucket]
    quantiles: Quantiles
    tiers: list[TierCount]


class TurnoverPoint(Model):
    """Who entered and who left the top in a window."""

    window_start: datetime
    window_end: datetime
    entered: list[str]
    left: list[str]


class Turnover(Model):
    """How the top changed over time."""

    board: str
    points: list[TurnoverPoint]


class ReportInfo(Model):
    """A report that can be asked for."""

    name: str
    description: str
    columns: list[str]


class ReportList(Model):
    """All reports."""

    reports: list[ReportInfo]


class Report(Model):
    """A report as a table."""

    name: str
    board: str
    generated_at: datetime
    columns: list[str]
    rows: list[dict[str, Any]]


class DeadLetterDocument(Model):
    """A message that a consumer could not handle."""

    id: int
    consumer: str
    subject: str = Field(description="where the message was published")
    reason: str
    stream_sequence: int | None
    size: int = Field(description="bytes")
    time: datetime | None = Field(description="when it was set aside")
    trace_id: str | None = Field(description="trace of its publication")
    replays: int = Field(description="how often it was replayed, to fail again")


class DeadLetterDetail(DeadLetterDocument):
    """A dead letter with its headers and its content: JSON where it is, else base64."""

    headers: dict[str, str]
    payload: Any


class DeadLetterPage(Model):
    """Dead letters, oldest first; `next` continues the list."""

    dead_letters: list[DeadLetterDocument]
    total: int
    next: int | None


class Replayed(Model):
    """A dead letter that was published again."""

    id: int
    subject: str
    message_id: str


class BoardDocument(Model):
    """A board and its season."""

    board: str
    season: int
    season_started_at: datetime | None
    season_ends_at: datetime | None = Field(description="when the schedule ends it; null without a schedule")


class BoardList(Model):
    """The boards of the resource."""

    boards: list[BoardDocument]


class BoardReset(Model):
    """A board that was reset."""

    board: str
    season: int = Field(description="the season that begins; the one before it is archived")
    season_started_at: datetime | None
