"""Tables of Podium. Migrations create them; this is the typed description the stores' queries are built on."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB

metadata = MetaData()

_id = Text(collation="C")
"""Identifiers compare by bytes, so that the order of equal scores is the same in SQL and in Redis."""

_time = DateTime(timezone=True)

player = Table(
    "player",
    metadata,
    Column("user_id", _id, primary_key=True),
    Column("username", Text, nullable=False),
    Column("total_actions", BigInteger, nullable=False, server_default="0"),
    Column("recent", ARRAY(_time), nullable=False, server_default=text("'{}'"), comment="last acceptance times"),
    Column("action_times", JSONB, nullable=False, server_default=text("'{}'"), comment="per type: Unix seconds"),
    Column("restriction", String(8), comment="ban, hide or block"),
    Column("restricted_until", _time),
    Column("restriction_reason", Text),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    Column("updated_at", _time, nullable=False, server_default=func.now()),
    comment="One row a user: the row an update locks, with its exact limits",
    postgresql_with={"fillfactor": "70"},
)

user_score = Table(
    "user_score",
    metadata,
    Column("board", _id, primary_key=True),
    Column("user_id", _id, primary_key=True),
    Column("username", Text, nullable=False),
    Column("score", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False, comment="grows with each change of this row"),
    Column("reached_at", _time, nullable=False, comment="when this score was reached, the primary's clock"),
    Column("last_updated", _time, nullable=False),
    Column("total_actions", BigInteger, nullable=False, server_default="0"),
    Column("hidden", Boolean, nullable=False, server_default=text("false")),
    comment="UserScore: the truth of the ranking",
    postgresql_with={"fillfactor": "70"},
)
"""No index but the primary key: one on the score would make each update write to all of them (docs/adr/0006)."""

action_log = Table(
    "action_log",
    metadata,
    Column("user_id", _id, nullable=False),
    Column("action_id", _id, nullable=False),
    Column("action_type", Text, nullable=False),
    Column("score_increase", BigInteger, nullable=False),
    Column("client_timestamp", _time, nullable=False),
    Column("accepted_at", _time, nullable=False),
    Column("metadata", JSONB(none_as_null=False), nullable=False),
    Column("metadata_checksum", LargeBinary, nullable=False, comment="SHA-256 of the body as it was sent"),
    Column("ip_address", INET),
    Column("device_info", Text),
    Column("request_signature", Text),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("response", JSONB, nullable=False, comment="the first answer, for replays"),
    Column("trace_id", String(32)),
    comment="ActionLog: every accepted update",
    postgresql_partition_by="RANGE (accepted_at)",
)
"""A unique index of a partitioned table must have the time in it, so what makes (user_id, action_id) unique is
``action_key`` (docs/adr/0006)."""
Index("action_log_accepted_at", action_log.c.accepted_at)

action_key = Table(
    "action_key",
    metadata,
    Column("user_id", _id, primary_key=True),
    Column("action_id", _id, primary_key=True),
    Column("accepted_at", _time, nullable=False),
    comment="Where the log has an action: unique over all partitions of the log",
)
"""A trigger adds the key of every row that comes into the log; maintenance removes those past the retention."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("event_id", Uuid, nullable=False, unique=True),
    Column("subject", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("traceparent", Text),
    Column("created_at", _time, nullable=False, server_default=func.clock_timestamp()),
    comment="Events of committed changes that JetStream has not acknowledged yet",
)

scoreboard_analytics = Table(
    "scoreboard_analytics",
    metadata,
    Column("board", _id, primary_key=True),
    Column("window_start", _time, primary_key=True),
    Column("window_end", _time, nullable=False),
    Column("updates", BigInteger, nullable=False),
    Column("active_users", BigInteger, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("total_users", BigInteger, nullable=False),
    Column("top_score", BigInteger),
    Column("mean_score", BigInteger),
    Column("top", JSONB, nullable=False, server_default=text("'[]'"), comment="the top at the window's end"),
    Column("turnover", Integer, nullable=False, server_default="0", comment="users who entered the top"),
    Column("closed_at", _time, comment="when the state at the window's end was taken; null while it is open"),
    comment="ScoreboardAnalytics: one row a board and interval",
)

session = Table(
    "session",
    metadata,
    Column("sid", Text, primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("user_id", _id, nullable=False),
    Column("username", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    Column("expires_at", _time, nullable=False, comment="absolute, from the session's start"),
    Column("revoked_at", _time),
    Column("revocation_sent", Boolean, nullable=False, server_default=text("false")),
)
Index(
    "session_unsent_revocation",
    session.c.sid,
    postgresql_where=text("revoked_at IS NOT NULL AND NOT revocation_sent"),
)
Index("session_expires_at", session.c.expires_at)

refresh_token = Table(
    "refresh_token",
    metadata,
    Column("token_sha256", LargeBinary, primary_key=True),
    Column("sid", Text, nullable=False, index=True),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    Column("used_at", _time),
    Column("successor_sha256", LargeBinary),
    Column("revoked_at", _time),
)

restriction_log = Table(
    "restriction_log",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("user_id", _id, nullable=False, index=True),
    Column("kind", String(8), nullable=False, comment="ban, hide, block or none"),
    Column("reason", Text, nullable=False),
    Column("until", _time),
    Column("actor", Text, nullable=False),
    Column("created_at", _time, nullable=False, server_default=func.now()),
    Column("sent", Boolean, nullable=False, server_default=text("false"), comment="every pod was told"),
)
Index("restriction_log_unsent", restriction_log.c.user_id, postgresql_where=text("NOT sent"))
Index(
    "player_restricted",
    player.c.restricted_until,
    player.c.user_id,
    postgresql_where=text("restriction IS NOT NULL"),
)

board_state = Table(
    "board_state",
    metadata,
    Column("board", _id, primary_key=True),
    Column("season", Integer, nullable=False, server_default="1"),
    Column("season_started_at", _time, server_default=func.now(), comment="null while the first season runs"),
    Column("due_at", _time, comment="when the schedule resets it next"),
    Column("schedule", Text, comment="the cron expression of due_at"),
)

season = Table(
    "season",
    metadata,
    Column("board", _id, primary_key=True),
    Column("season", Integer, primary_key=True),
    Column("started_at", _time, comment="null for a board's first season"),
    Column("ended_at", _time, nullable=False),
    Column("players", BigInteger, comment="users with a score; null until all are archived"),
    Column("purging", Boolean, nullable=False, server_default=text("false")),
    comment="Ended seasons",
)

board_epoch = Sequence("board_epoch", metadata=metadata)
"""Epochs of the rankings in Redis; a number is never handed out twice, so a new epoch is always larger."""

season_score = Table(
    "season_score",
    metadata,
    Column("board", _id, primary_key=True),
    Column("season", Integer, primary_key=True),
    Column("user_id", _id, primary_key=True),
    Column("username", Text, nullable=False),
    Column("score", BigInteger, nullable=False),
    Column("reached_at", _time, nullable=False),
    Column("total_actions", BigInteger, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("archived_at", _time, nullable=False, server_default=func.now()),
    comment="Scores of ended seasons, as they stood when the board was reset",
)
Index(
    "season_score_ranking",
    season_score.c.board,
    season_score.c.season,
    season_score.c.score.desc(),
    season_score.c.reached_at,
    season_score.c.user_id,
)

analytics_event = Table(
    "analytics_event",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("counted_at", _time, nullable=False, server_default=func.now(), index=True),
    comment="Events that analytics has counted, so that a redelivery counts nothing",
)

analytics_user = Table(
    "analytics_user",
    metadata,
    Column("board", _id, primary_key=True),
    Column("span_seconds", Integer, primary_key=True, comment="the analytics interval, 3600 or 86400"),
    Column("window_start", _time, primary_key=True),
    Column("user_id", _id, primary_key=True),
    comment="Who was active in a window: distinct users cannot be summed",
)

views = MetaData()
"""Views, apart from the tables: migrations make them in SQL."""

current_score = Table(
    "current_score",
    views,
    *(Column(column.name, column.type, primary_key=column.primary_key) for column in user_score.columns),
    comment="user_score without the rows of ended seasons: the ranking by SQL",
)
