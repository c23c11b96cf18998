"""Revision 0004 on boards that were reset the old way, which kept the rows, hidden and without points."""

import psycopg

from podium.common.seasons import first_version
from podium.common.settings import DatabaseSettings
from podium.schema.migrate import migrate


def test_boards_that_were_reset_keep_their_seasons(
    empty: psycopg.Connection, empty_database_settings: DatabaseSettings
) -> None:
    """Versions rise to those of the board's season, rows without an action go, and the archive has its list."""
    migrate(empty_database_settings, "0003")
    empty.execute(
        """
        INSERT INTO board_state (board, season) VALUES ('weekly', 3), ('never', 1);
        INSERT INTO user_score
          (board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
        VALUES ('weekly', 'ann', '', 5, 9, now(), now(), 1, false), ('weekly', 'bob', '', 0, 4, now(), now(), 0, true),
          ('never', 'ann', '', 7, 2, now(), now(), 2, false), ('other', 'eve', '', 1, 1, now(), now(), 1, true);
        INSERT INTO season_score (board, season, user_id, username, score, reached_at, total_actions, hidden)
        VALUES ('weekly', 1, 'ann', '', 1, now(), 1, false), ('weekly', 2, 'ann', '', 2, now(), 1, false),
          ('weekly', 2, 'bob', '', 3, now(), 1, false)
        """
    )
    migrate(empty_database_settings)
    rows = empty.execute("SELECT board, user_id, score, version, hidden FROM current_score ORDER BY 1, 2").fetchall()
    assert rows == [
        ("never", "ann", 7, 2, False),
        ("other", "eve", 1, 1, True),
        ("weekly", "ann", 5, first_version(3) + 9, False),
    ]
    assert empty.execute("SELECT count(*) FROM user_score").fetchall() == [(3,)]
    ended = empty.execute("SELECT board, season, players FROM season ORDER BY 1, 2").fetchall()
    assert ended == [("weekly", 1, 1), ("weekly", 2, 2)]
