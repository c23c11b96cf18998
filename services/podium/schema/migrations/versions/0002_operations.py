"""Delivery of restrictions, ended seasons, and what analytics has counted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "restriction_log",
        sa.Column("sent", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="every pod was told"),
    )
    op.create_index(
        "restriction_log_unsent", "restriction_log", ["user_id"], unique=False, postgresql_where=sa.text("NOT sent")
    )
    op.create_index(
        "player_restricted",
        "player",
        ["restricted_until", "user_id"],
        unique=False,
        postgresql_where=sa.text("restriction IS NOT NULL"),
    )
    op.add_column(
        "scoreboard_analytics",
        sa.Column(
            "closed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the state at the window's end was taken; null while it is open",
        ),
    )
    op.create_table(
        "season_score",
        sa.Column("board", sa.Text(collation="C"), nullable=False),
        sa.Column("season", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("total_actions", sa.BigInteger(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("board", "season", "user_id"),
        comment="Scores of ended seasons, as they stood when the board was reset",
    )
    op.create_table(
        "analytics_event",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
        comment="Events that analytics has counted, so that a redelivery counts nothing",
    )
    op.create_index(op.f("ix_analytics_event_counted_at"), "analytics_event", ["counted_at"], unique=False)
    op.create_table(
        "analytics_user",
        sa.Column("board", sa.Text(collation="C"), nullable=False),
        sa.Column("span_seconds", sa.Integer(), nullable=False, comment="the analytics interval, 3600 or 86400"),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("board", "span_seconds", "window_start", "user_id"),
        comment="Who was active in a window: distinct users cannot be summed",
    )


def downgrade() -> None:
    op.drop_table("analytics_user")
    op.drop_index(op.f("ix_analytics_event_counted_at"), table_name="analytics_event")
    op.drop_table("analytics_event")
    op.drop_table("season_score")
    op.drop_column("scoreboard_analytics", "closed_at")
    op.drop_index("player_restricted", table_name="player", postgresql_where=sa.text("restriction IS NOT NULL"))
    op.drop_index("restriction_log_unsent", table_name="restriction_log", postgresql_where=sa.text("NOT sent"))
    op.drop_column("restriction_log", "sent")
