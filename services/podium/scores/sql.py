"""Statements of the scores service, all of them on many rows at once (``unnest`` of one array a column).

On the hot path an array travels as one text with a separator between its elements, the last parameter: the driver
looks at every element of an array several times, and the server takes a text apart much faster than that. ``columns``
makes these parameters. An empty text is an array without elements, also where it was meant as one empty element.
"""

import secrets
from collections.abc import Iterable

from podium.common.seasons import GATE, SEASON_BITS

# The lock is more than an order: a repeat of an update that only locks writes to the database's log as well, so its
# answer, too, waits until the standby has all that it tells of.
LOCK_PLAYERS = f"""
SELECT user_id, total_actions, recent, action_times, restriction, restricted_until
FROM player WHERE user_id = ANY(string_to_array($1, $2)) AND (SELECT pg_advisory_xact_lock_shared({GATE})) IS NOT NULL
ORDER BY user_id FOR UPDATE
"""  # noqa: S608
"""In the order of user ids, as every batch does, so that batches wait for each other and never in a circle.

Before them the season's gate, once: a reset passes it when no update is under way, so all that a transaction reads
after this statement is of the season in which it commits.
"""

ADD_PLAYERS = """
INSERT INTO player (user_id, username)
SELECT user_id, username FROM unnest($1::text[], $2::text[]) AS new (user_id, username)
ORDER BY user_id COLLATE "C" ON CONFLICT DO NOTHING
"""

READ = """
SELECT asked.number, k.accepted_at AS logged_at, clock_timestamp() AS now,
  coalesce(b.season, 1) AS season, s.score, s.version, s.reached_at, s.total_actions
FROM unnest(string_to_array($1, $4), string_to_array($2, $4), string_to_array($3, $4, '')) WITH ORDINALITY
  AS asked (user_id, action_id, board, number)
LEFT JOIN action_key k ON k.user_id = asked.user_id AND k.action_id = asked.action_id
LEFT JOIN board_state b ON b.board = asked.board
LEFT JOIN user_score s ON s.board = asked.board AND s.user_id = asked.user_id
"""
"""Every asked action and board gives a row: when the action was logged, if it was, the season that runs, and, where
there is one, the user's score of that season or of one before; and the primary's clock. Scores are not locked: one is
only written under its player's lock, or moved away when its season has ended.
"""

READ_LOGGED = """
SELECT a.user_id, a.action_id, a.body_sha256, a.response
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS asked (user_id, action_id, accepted_at)
JOIN action_log a ON a.accepted_at = asked.accepted_at AND a.user_id = asked.user_id AND a.action_id = asked.action_id
"""
"""Actions that were accepted before, of which there are few: by their times, which lead to the log's partitions."""

ARCHIVE_SCORES = f"""
WITH ended AS (
  DELETE FROM user_score s USING unnest($1::text[], $2::text[]) AS asked (board, user_id), board_state b
  WHERE s.board = asked.board AND s.user_id = asked.user_id AND b.board = s.board
    AND s.version < (b.season - 1)::bigint << {SEASON_BITS}
  RETURNING s.*
)
INSERT INTO season_score (board, season, user_id, username, score, reached_at, total_actions, hidden)
SELECT board, (version >> {SEASON_BITS}) + 1, user_id, username, score, reached_at, total_actions, hidden FROM ended
"""  # noqa: S608
"""Scores of ended seasons make room for the first ones of the season that runs; the archiver of the analytics service
does the same for all others, and each row is moved by one of the two."""

WRITE = """
WITH logged AS (
  INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata,
    metadata_checksum, body_sha256, ip_address, device_info, request_signature, response, trace_id)
  SELECT user_id, action_id, action_type, score_increase, epoch + client_us * us, epoch + accepted_us * us,
    metadata::jsonb, sha256, sha256, ip_address::inet, device_info, request_signature, response::jsonb, trace_id
  FROM unnest(string_to_array($1, $34), string_to_array($2, $34), string_to_array($3, $34),
    string_to_array($4, $34)::bigint[], string_to_array($5, $34)::bigint[], string_to_array($6, $34)::bigint[],
    string_to_array($7, $34), string_to_array($8, $34)::bytea[], string_to_array($9, $34, ''),
    string_to_array($10, $34, ''), string_to_array($11, $34, ''), string_to_array($12, $34),
    string_to_array($13, $34, ''))
    AS new (user_id, action_id, action_type, score_increase, client_us, accepted_us, metadata,
      sha256, ip_address, device_info, request_signature, response, trace_id),
    (VALUES (timestamptz 'epoch', interval '1 microsecond')) AS unit (epoch, us)
), scored AS (
  INSERT INTO user_score AS s
    (board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
  SELECT board, user_id, coalesce(username, ''), score, version, epoch + reached_us * us, epoch + updated_us * us,
    total_actions, hidden
  FROM unnest(string_to_array($14, $34), string_to_array($15, $34), string_to_array($16, $34),
    string_to_array($17, $34)::bigint[], string_to_array($18, $34)::bigint[], string_to_array($19, $34)::bigint[],
    string_to_array($20, $34)::bigint[], string_to_array($21, $34)::bigint[], string_to_array($22, $34)::boolean[])
    AS new (board, user_id, username, score, version, reached_us, updated_us, total_actions, hidden),
    (VALUES (timestamptz 'epoch', interval '1 microsecond')) AS unit (epoch, us)
  ON CONFLICT (board, user_id) DO UPDATE SET username = excluded.username, score = excluded.score,
    version = excluded.version, reached_at = excluded.reached_at, last_updated = excluded.last_updated,
    total_actions = excluded.total_actions, hidden = excluded.hidden
), players AS (
  UPDATE player p SET username = coalesce(new.username, ''), total_actions = new.total_actions,
    recent = p.recent[new.left_the_window + 1 :] || new.accepted::timestamptz[],
    action_times = coalesce(new.action_times::jsonb, p.action_times),
    updated_at = timestamptz 'epoch' + new.updated_us * interval '1 microsecond'
  FROM unnest(string_to_array($23, $34), string_to_array($24, $34), string_to_array($25, $34)::bigint[],
    string_to_array($26, $34)::int[], string_to_array($27, $34), string_to_array($28, $34, ''),
    string_to_array($29, $34)::bigint[])
    AS new (user_id, username, total_actions, left_the_window, accepted, action_times, updated_us)
  WHERE p.user_id = new.user_id
)
INSERT INTO outbox (event_id, subject, payload, traceparent)
SELECT * FROM unnest($30::uuid[], $31::text[], $32::bytea[], $33::text[])
"""
"""Everything that a batch changes, in one round trip. Times are Unix microseconds, where no text: an integer times an
interval is exact. Of a player's times only what left the window and what came is sent."""

_SEPARATOR = "\x1f"
"""Usual separator of a column's elements: the character that ASCII has for it."""


def columns(*values: Iterable[str]) -> tuple[str, ...]:
    """Columns as texts, and the separator that none of their elements holds."""
    lists = [list(column) for column in values]
    separator = _SEPARATOR
    joined = [separator.join(column) for column in lists]
    if any(text.count(separator) >= max(len(column), 1) for text, column in zip(joined, lists, strict=True)):
        separator = secrets.token_hex(16)  # nobody can have guessed it
        joined = [separator.join(column) for column in lists]
    return (*joined, separator)


DELETE_EVENTS = "DELETE FROM outbox WHERE event_id = ANY($1::uuid[])"

TAKE_EVENTS = """
SELECT event_id, subject, payload, traceparent FROM outbox
WHERE created_at < clock_timestamp() - interval '1 second'
ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""

OLDEST_EVENT_AGE = """
SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM outbox ORDER BY id LIMIT 1
"""
