"""Seasons in the versions of scores, ended seasons with their ranking, and what is scheduled."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Resets so far kept the rows, with no points and hidden: now such a row is absent.
    op.execute("DELETE FROM user_score WHERE total_actions = 0")
    op.execute(
        """
        UPDATE user_score s SET version = s.version + ((b.season - 1)::bigint << 32)
        FROM board_state b WHERE b.board = s.board AND b.season > 1
        """
    )
    op.create_table(
        "season",
        sa.Column("board", sa.Text(collation="C"), nullable=False),
        sa.Column("season", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True, comment="null for a board's first season"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("players", sa.BigInteger(), nullable=True, comment="users with a score; null until all are archived"),
        sa.Column("purging", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("board", "season"),
        comment="Ended seasons",
    )
    op.execute(
        """
        INSERT INTO season (board, season, ended_at, players)
        SELECT board, season, max(archived_at), count(*) FROM season_score GROUP BY board, season
        """
    )
    op.alter_column("board_state", "season_started_at", nullable=True, comment="null while the first season runs")
    op.add_column(
        "board_state",
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, comment="when the schedule resets it next"),
    )
    op.add_column(
        "board_state", sa.Column("schedule", sa.Text(), nullable=True, comment="the cron expression of due_at")
    )
    op.create_index(
        "season_score_ranking",
        "season_score",
        ["board", "season", sa.literal_column("score DESC"), "reached_at", "user_id"],
        unique=False,
    )
    op.execute(
        """
        CREATE VIEW current_score AS
        SELECT s.* FROM user_score s LEFT JOIN board_state b ON b.board = s.board
        WHERE s.version >= coalesce((b.season - 1)::bigint << 32, 0)
        """
    )


def downgrade() -> None:
    op.execute("DROP VIEW current_score")
    op.drop_index("season_score_ranking", table_name="season_score")
    op.drop_column("board_state", "schedule")
    op.drop_column("board_state", "due_at")
    op.execute("UPDATE board_state SET season_started_at = now() WHERE season_started_at IS NULL")
    op.alter_column("board_state", "season_started_at", nullable=False, comment=None)
    op.drop_table("season")
