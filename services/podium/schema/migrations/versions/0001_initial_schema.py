"""Initial schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("board_epoch")))
    op.create_table(
        "action_log",
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("action_id", sa.Text(collation="C"), nullable=False),
        sa.Column("action_type", sa.Text(), nullable=False),
        sa.Column("score_increase", sa.BigInteger(), nullable=False),
        sa.Column("client_timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("metadata_checksum", sa.LargeBinary(), nullable=False, comment="SHA-256 of the body as it was sent"),
        sa.Column("ip_address", postgresql.INET(), nullable=True),
        sa.Column("device_info", sa.Text(), nullable=True),
        sa.Column("request_signature", sa.Text(), nullable=True),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column(
            "response", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the first answer, for replays"
        ),
        sa.Column("trace_id", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "action_id"),
        comment="ActionLog: every accepted update",
    )
    op.create_index("action_log_accepted_at", "action_log", ["accepted_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "board_state",
        sa.Column("board", sa.Text(collation="C"), nullable=False),
        sa.Column("season", sa.Integer(), server_default="1", nullable=False),
        sa.Column("season_started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("board"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event_id"),
        comment="Events of committed changes that JetStream has not acknowledged yet",
    )
    op.create_table(
        "player",
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("total_actions", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "recent",
            postgresql.ARRAY(sa.DateTime(timezone=True)),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="last acceptance times",
        ),
        sa.Column(
            "action_times",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="per type: Unix seconds",
        ),
        sa.Column("restriction", sa.String(length=8), nullable=True, comment="ban, hide or block"),
        sa.Column("restricted_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("restriction_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
        comment="One row a user: the row an update locks, with its exact limits",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "refresh_token",
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("successor_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("token_sha256"),
    )
    op.create_index(op.f("ix_refresh_token_sid"), "refresh_token", ["sid"], unique=False)
    op.create_table(
        "restriction_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False, comment="ban, hide, block or none"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_restriction_log_user_id"), "restriction_log", ["user_id"], unique=False)
    op.create_table(
        "scoreboard_analytics",
        sa.Column("board", sa.Text(collation="C"), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updates", sa.BigInteger(), nullable=False),
        sa.Column("active_users", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("total_users", sa.BigInteger(), nullable=False),
        sa.Column("top_score", sa.BigInteger(), nullable=True),
        sa.Column("mean_score", sa.BigInteger(), nullable=True),
        sa.Column(
            "top",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="the top at the window's end",
        ),
        sa.Column("turnover", sa.Integer(), server_default="0", nullable=False, comment="users who entered the top"),
        sa.PrimaryKeyConstraint("board", "window_start"),
        comment="ScoreboardAnalytics: one row a board and interval",
    )
    op.create_table(
        "session",
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=False, comment="absolute, from the session's start"
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revocation_sent", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("sid"),
    )
    op.create_index("session_expires_at", "session", ["expires_at"], unique=False)
    op.create_index(
        "session_unsent_revocation",
        "session",
        ["sid"],
        unique=False,
        postgresql_where=sa.text("revoked_at IS NOT NULL AND NOT revocation_sent"),
    )
    op.create_table(
        "user_score",
        sa.Column("board", sa.Text(collation="C"), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="grows with each change of this row"),
        sa.Column(
            "reached_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when this score was reached, the primary's clock",
        ),
        sa.Column("last_updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("total_actions", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("hidden", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("board", "user_id"),
        comment="UserScore: the truth of the ranking",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "user_score_ranking",
        "user_score",
        ["board", sa.literal_column("score DESC"), "reached_at", "user_id"],
        unique=False,
        postgresql_where=sa.text("NOT hidden"),
    )


def downgrade() -> None:
    op.execute(sa.schema.DropSequence(sa.Sequence("board_epoch")))
    op.drop_index("user_score_ranking", table_name="user_score", postgresql_where=sa.text("NOT hidden"))
    op.drop_table("user_score")
    op.drop_index(
        "session_unsent_revocation",
        table_name="session",
        postgresql_where=sa.text("revoked_at IS NOT NULL AND NOT revocation_sent"),
    )
    op.drop_index("session_expires_at", table_name="session")
    op.drop_table("session")
    op.drop_table("scoreboard_analytics")
    op.drop_index(op.f("ix_restriction_log_user_id"), table_name="restriction_log")
    op.drop_table("restriction_log")
    op.drop_index(op.f("ix_refresh_token_sid"), table_name="refresh_token")
    op.drop_table("refresh_token")
    op.drop_table("player")
    op.drop_table("outbox")
    op.drop_table("board_state")
    op.drop_index("action_log_accepted_at", table_name="action_log", postgresql_using="brin")
    op.drop_table("action_log")
