package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const scoreUpdated = "podium.events.score.updated"

// patience with an update whose player is changed by others again and again while its statement runs.
const patience = 5 * time.Second

// EachStore commits every update by a statement of its own: log, scores, player and outbox in one round trip.
type EachStore struct {
	pool   *pgxpool.Pool
	outbox *Outbox
	rules  *Rules
	user   Limit
}

// commitOne writes an update that nothing speaks against; else it gives no row and lookUp says why. It decides on the
// statement's snapshot and writes only if the player's row is still the one of the snapshot (xmin), so limits are exact
// and an actionId counts once however many try at the same time. Times are ascending, so a limit of n is exhausted
// exactly if the n-th newest is in the window.
const commitOne = `
WITH me AS (
  UPDATE player p SET username = $3, total_actions = p.total_actions + 1, updated_at = c.at,
    recent = ARRAY(SELECT t FROM unnest(p.recent) t WHERE t > c.at - interval '60 seconds') || c.at,
    action_times = CASE WHEN $11::float8 > 0 THEN jsonb_set(p.action_times, ARRAY[$4::text], coalesce(
        (SELECT jsonb_agg(t) FROM jsonb_array_elements(p.action_times -> $4) t
         WHERE t::float8 > extract(epoch FROM c.at) - $11), '[]') || to_jsonb(extract(epoch FROM c.at)))
      ELSE p.action_times - $4 END
  FROM (SELECT o.xmin AS version,
      greatest(clock_timestamp(), o.recent[cardinality(o.recent)] + interval '1 microsecond') AS at
    FROM player o WHERE o.user_id = $1) c
  WHERE p.user_id = $1 AND p.xmin = c.version
    AND (p.restriction IS NULL OR p.restriction = 'hide' OR p.restricted_until <= c.at)
    AND NOT EXISTS (SELECT FROM action_key WHERE user_id = $1 AND action_id = $2)
    AND $5::timestamptz BETWEEN c.at - interval '300 seconds' AND c.at + interval '300 seconds'
    AND NOT EXISTS (SELECT FROM user_score s
      WHERE s.board = ANY($9::text[]) AND s.user_id = $1 AND abs(s.score + $8) > 1000000000000000)
    AND (cardinality(p.recent) < $10
      OR p.recent[cardinality(p.recent) - $10 + 1] <= c.at - interval '60 seconds')
    AND ($11 = 0 OR NOT EXISTS (SELECT FROM unnest($12::float8[], $13::int[]) AS l (seconds, count)
      WHERE (p.action_times -> $4 -> -l.count)::float8 > extract(epoch FROM c.at) - l.seconds))
  RETURNING p.total_actions, p.recent, c.at,
    to_char(c.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at_text,
    p.restriction IS NOT NULL AND (p.restricted_until IS NULL OR p.restricted_until > c.at) AS hidden
), scored AS (
  INSERT INTO user_score AS s
    (board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
  SELECT board, $1, $3, $8, 1, me.at, me.at, 1, me.hidden FROM me, unnest($9::text[]) AS b (board)
  ON CONFLICT (board, user_id) DO UPDATE SET username = excluded.username, version = s.version + 1,
    score = CASE WHEN s.board = ANY($14::text[]) AND s.total_actions > 0 THEN greatest(s.score, excluded.score)
      WHEN s.board = ANY($14) OR s.board = ANY($15::text[]) THEN excluded.score ELSE s.score + excluded.score END,
    reached_at = CASE WHEN s.total_actions > 0 AND (s.board = ANY($14) AND s.score >= excluded.score
        OR s.board = ANY($15) AND s.score = excluded.score) THEN s.reached_at ELSE excluded.reached_at END,
    last_updated = excluded.last_updated, total_actions = s.total_actions + 1, hidden = excluded.hidden
  RETURNING s.board, s.score, s.version, s.reached_at, s.total_actions,
    CASE WHEN s.board = ANY($14) OR s.board = ANY($15) THEN s.score - coalesce((SELECT o.score FROM user_score o
      WHERE o.board = s.board AND o.user_id = $1 AND o.total_actions > 0), 0) ELSE $8 END AS increase
), logged AS (
  INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata,
    metadata_checksum, body_sha256, ip_address, device_info, request_signature, response)
  SELECT $1, $2, $4, s.increase, $5, me.at, $6::jsonb, $7, $7, $16::inet, $17, $18,
    jsonb_build_object('actionId', $2::text, 'userId', $1::text, 'username', $3::text, 'score', s.score,
      'scoreIncrease', s.increase, 'totalActions', me.total_actions,
      'tier', ($19::text[])[width_bucket(s.score, $20::bigint[])], 'lastUpdated', me.at_text)
  FROM me, scored s WHERE s.board = ($9::text[])[1]
), sent AS (
  INSERT INTO outbox (event_id, subject, payload)
  SELECT $21, $22, convert_to(json_build_object('eventId', $21::uuid, 'updates', json_agg(json_build_object(
    'board', s.board, 'userId', $1::text, 'username', $3::text, 'score', s.score, 'version', s.version,
    'reachedAt', s.reached_at, 'hidden', me.hidden, 'totalActions', s.total_actions, 'actionId', $2::text,
    'actionType', $4::text, 'scoreIncrease', s.increase, 'acceptedAt', me.at_text, 'ipAddress', $16::text,
    'traceparent', NULL)))::text, 'UTF8')
  FROM me, scored s HAVING count(*) > 0
  RETURNING payload
)
SELECT me.total_actions, me.at, me.at_text, me.recent, s.score, s.increase, sent.payload
FROM me, scored s, sent WHERE s.board = ($9::text[])[1]
`

// commitSimple is commitOne for what most actions are: one board that adds up, no limits of the action's own. PostgreSQL
// sets every node of a plan up anew for each execution, so a smaller statement is a cheaper one.
const commitSimple = `
WITH me AS (
  UPDATE player p SET username = $3, total_actions = p.total_actions + 1, updated_at = c.at,
    recent = ARRAY(SELECT t FROM unnest(p.recent) t WHERE t > c.at - interval '60 seconds') || c.at,
    action_times = p.action_times - $4
  FROM (SELECT o.xmin AS version,
      greatest(clock_timestamp(), o.recent[cardinality(o.recent)] + interval '1 microsecond') AS at
    FROM player o WHERE o.user_id = $1) c
  WHERE p.user_id = $1 AND p.xmin = c.version
    AND (p.restriction IS NULL OR p.restriction = 'hide' OR p.restricted_until <= c.at)
    AND NOT EXISTS (SELECT FROM action_key WHERE user_id = $1 AND action_id = $2)
    AND $5::timestamptz BETWEEN c.at - interval '300 seconds' AND c.at + interval '300 seconds'
    AND NOT EXISTS (SELECT FROM user_score s
      WHERE s.board = $9 AND s.user_id = $1 AND abs(s.score + $8::bigint) > 1000000000000000)
    AND (cardinality(p.recent) < $10
      OR p.recent[cardinality(p.recent) - $10 + 1] <= c.at - interval '60 seconds')
  RETURNING p.total_actions, p.recent, c.at,
    to_char(c.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at_text,
    p.restriction IS NOT NULL AND (p.restricted_until IS NULL OR p.restricted_until > c.at) AS hidden
), scored AS (
  INSERT INTO user_score AS s
    (board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
  SELECT $9::text, $1, $3, $8, 1, me.at, me.at, 1, me.hidden FROM me
  ON CONFLICT (board, user_id) DO UPDATE SET username = excluded.username, version = s.version + 1,
    score = s.score + excluded.score, reached_at = excluded.reached_at, last_updated = excluded.last_updated,
    total_actions = s.total_actions + 1, hidden = excluded.hidden
  RETURNING s.score, s.version, s.total_actions
), logged AS (
  INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata,
    metadata_checksum, body_sha256, ip_address, device_info, request_signature, response)
  SELECT $1, $2, $4, $8, $5, me.at, $6::jsonb, $7, $7, $11::inet, $12, $13,
    jsonb_build_object('actionId', $2::text, 'userId', $1::text, 'username', $3::text, 'score', s.score,
      'scoreIncrease', $8, 'totalActions', me.total_actions,
      'tier', ($14::text[])[width_bucket(s.score, $15::bigint[])], 'lastUpdated', me.at_text)
  FROM me, scored s
), sent AS (
  INSERT INTO outbox (event_id, subject, payload)
  SELECT $16, $17, convert_to(json_build_object('eventId', $16::uuid, 'updates', json_build_array(json_build_object(
    'board', $9::text, 'userId', $1::text, 'username', $3::text, 'score', s.score, 'version', s.version,
    'reachedAt', me.at_text, 'hidden', me.hidden, 'totalActions', s.total_actions, 'actionId', $2::text,
    'actionType', $4::text, 'scoreIncrease', $8, 'acceptedAt', me.at_text, 'ipAddress', $11::text,
    'traceparent', NULL)))::text, 'UTF8')
  FROM me, scored s
  RETURNING payload
)
SELECT me.total_actions, me.at, me.at_text, me.recent, s.score, $8, sent.payload FROM me, scored s, sent
`

const lookUp = `
SELECT clock_timestamp(), p.user_id IS NOT NULL,
  CASE WHEN p.restricted_until IS NULL OR p.restricted_until > clock_timestamp() THEN p.restriction END,
  coalesce(p.recent, '{}'), p.action_times -> $3, a.body_sha256, a.response
FROM (SELECT $1::text AS user_id) asked
LEFT JOIN player p ON p.user_id = asked.user_id
LEFT JOIN action_key k ON k.user_id = asked.user_id AND k.action_id = $2
LEFT JOIN action_log a ON a.accepted_at = k.accepted_at AND a.user_id = k.user_id AND a.action_id = k.action_id
`

// Commit decides and writes one update; back only after its commit.
func (s *EachStore) Commit(ctx context.Context, update *Update) (*Outcome, error) {
	if update.Refused != nil { // something that comes before the rules may speak first
		return s.why(ctx, update)
	}
	for begin := time.Now(); time.Since(begin) < patience; {
		outcome, err := s.write(ctx, update)
		if errors.Is(err, pgx.ErrNoRows) {
			outcome, err = s.why(ctx, update)
		}
		if outcome != nil || err != nil {
			return outcome, err
		}
	}
	return nil, errOverloaded
}

// write gives pgx.ErrNoRows where the update cannot be accepted, or the player was changed meanwhile.
func (s *EachStore) write(ctx context.Context, update *Update) (*Outcome, error) {
	var (
		at       time.Time
		recent   []time.Time
		answer   = Answer{ActionID: update.ActionID, UserID: update.UserID, Username: update.Username}
		event    = Event{ID: uuid.New(), Subject: scoreUpdated}
		row      = s.execute(ctx, update, event)
		received = row.Scan(&answer.TotalActions, &at, &answer.LastUpdated, &recent, &answer.Score, &answer.ScoreIncrease,
			&event.Payload)
	)
	if received != nil {
		return nil, fmt.Errorf("commit: %w", received)
	}
	s.outbox.Send(event)
	answer.Tier = s.rules.tier(answer.Score)
	remaining, reset := standing(s.user, recent, at)
	return &Outcome{Answer: answer, Remaining: remaining, Reset: reset}, nil
}

// why an update was not written: the first answer, or a refusal. Neither if another try may succeed.
func (s *EachStore) why(ctx context.Context, update *Update) (*Outcome, error) {
	var (
		now         time.Time
		known       bool
		restriction *string
		recent      []time.Time
		ofType      []float64
		loggedSHA   []byte
		logged      *Answer
	)
	row := s.pool.QueryRow(ctx, lookUp, update.UserID, update.ActionID, update.Type)
	if err := row.Scan(&now, &known, &restriction, &recent, &ofType, &loggedSHA, &logged); err != nil {
		return nil, fmt.Errorf("look-up: %w", err)
	}
	if restriction != nil {
		if refusal := restrictionRefusal(*restriction); refusal != nil {
			return nil, refusal
		}
	}
	if logged != nil {
		return replay(update.BodySHA, loggedSHA, *logged)
	}
	if refusal := staleTimestamp(now, update.Timestamp); refusal != nil {
		return nil, refusal
	}
	if update.Refused != nil {
		return nil, update.Refused
	}
	times := make([]time.Time, len(ofType))
	for i, seconds := range ofType {
		times[i] = time.UnixMicro(int64(seconds * 1e6))
	}
	if refusal := limited(s.user, update.Award, recent, times, now); refusal != nil {
		return nil, refusal
	}
	if !known {
		_, err := s.pool.Exec(ctx, addPlayers, []string{update.UserID}, []string{update.Username})
		return nil, err
	}
	return nil, s.outOfRange(ctx, update)
}

// outOfRange is the refusal of an award that would move a score out of the range of scores, or nil.
func (s *EachStore) outOfRange(ctx context.Context, update *Update) error {
	var beyond bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM user_score
		WHERE user_id = $1 AND abs(score + $2) > $3)`, update.UserID, update.Award.Points, int64(maxScore)).Scan(&beyond)
	if err == nil && beyond {
		return invalidData("the score would leave the range of scores")
	}
	return err
}

func (s *EachStore) execute(ctx context.Context, update *Update, event Event) pgx.Row {
	award := update.Award
	if len(award.Boards) > 1 || award.Boards[0].Operator != "Increment" || len(award.Limits) > 0 {
		return s.pool.QueryRow(ctx, commitOne, s.arguments(update, event)...)
	}
	return s.pool.QueryRow(ctx, commitSimple, update.UserID, update.ActionID, update.Username, update.Type,
		update.Timestamp, update.Metadata, update.BodySHA, award.Points, award.Boards[0].Name, s.user.Count,
		update.IPAddress, update.Device, update.Signature, s.rules.tierNames, s.rules.tierScores, event.ID, event.Subject)
}

func (s *EachStore) arguments(update *Update, event Event) []any {
	award := update.Award
	boards := make([]string, len(award.Boards))
	var best, latest []string
	for i, board := range award.Boards {
		boards[i] = board.Name
		switch board.Operator {
		case "Best":
			best = append(best, board.Name)
		case "Latest":
			latest = append(latest, board.Name)
		}
	}
	longest := 0.0
	var windows []float64
	var counts []int32
	for _, each := range award.Limits {
		windows, counts = append(windows, each.Window.Seconds()), append(counts, int32(each.Count))
		longest = max(longest, each.Window.Seconds())
	}
	return []any{update.UserID, update.ActionID, update.Username, update.Type, update.Timestamp, update.Metadata,
		update.BodySHA, award.Points, boards, s.user.Count, longest, windows, counts, best, latest, update.IPAddress,
		update.Device, update.Signature, s.rules.tierNames, s.rules.tierScores, event.ID, event.Subject}
}
