package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

const scoreUpdated = "podium.events.score.updated"

// attempts of one update whose player was changed by another while its statement ran.
const attempts = 20

// EachStore commits every update by a statement of its own: log, scores, player and outbox in one round trip.
type EachStore struct {
	pool   *pgxpool.Pool
	outbox *Outbox
	rules  *Rules
	user   Limit
}

// commitOne decides on the statement's snapshot and applies the decision only if the player's row is still the one of
// the snapshot (xmin), so the limits are exact and an actionId counts once however many try at the same time. One row
// comes back: what was read, and, where it was applied, the new state.
const commitOne = `
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
seen AS MATERIALIZED (SELECT body_sha256, response FROM action_log WHERE user_id = $1 AND action_id = $2),
old AS MATERIALIZED (
  SELECT p.xmin AS row_version, p.recent, p.action_times -> $4 AS of_type, p.action_times,
    CASE WHEN p.restricted_until IS NULL OR p.restricted_until > clock.at THEN p.restriction END AS restriction,
    greatest(clock.at, p.recent[cardinality(p.recent)] + interval '1 microsecond') AS at
  FROM player p, clock WHERE p.user_id = $1
), now AS MATERIALIZED (
  SELECT coalesce(old.at, clock.at) AS at, old.restriction, old.row_version,
    ARRAY(SELECT t FROM unnest(old.recent) t WHERE t > coalesce(old.at, clock.at) - interval '60 seconds') AS recent
  FROM clock LEFT JOIN old ON true
), previous AS MATERIALIZED (
  SELECT board, score FROM user_score WHERE user_id = $1 AND board = ANY($9::text[]) AND total_actions > 0
), me AS (
  INSERT INTO player AS p (user_id, username, total_actions, recent, action_times, updated_at)
  SELECT $1, $3, 1, now.recent || now.at, CASE WHEN $12::float8 > 0 THEN
      jsonb_build_object($4::text, jsonb_build_array(extract(epoch FROM now.at)::float8)) ELSE '{}' END, now.at
  FROM now
  WHERE NOT EXISTS (SELECT FROM seen) AND (now.restriction IS NULL OR now.restriction = 'hide')
    AND abs(extract(epoch FROM now.at - $5::timestamptz)) <= 300
    AND cardinality(now.recent) < $11
    AND ($12::float8 = 0 OR NOT EXISTS (SELECT FROM unnest($13::float8[], $14::int[]) AS l (seconds, count)
      WHERE (SELECT count(*) FROM old, jsonb_array_elements(old.of_type) t
        WHERE t::float8 > extract(epoch FROM now.at) - l.seconds) >= l.count))
    AND NOT EXISTS (SELECT FROM previous WHERE abs(score + $8) > 1000000000000000)
  ON CONFLICT (user_id) DO UPDATE SET username = excluded.username, total_actions = p.total_actions + 1,
    recent = excluded.recent, updated_at = excluded.updated_at,
    action_times = CASE WHEN $12::float8 > 0 THEN jsonb_set(p.action_times, ARRAY[$4::text], coalesce(
        (SELECT jsonb_agg(t) FROM jsonb_array_elements(p.action_times -> $4) t
         WHERE t::float8 > extract(epoch FROM excluded.updated_at) - $12), '[]') || (excluded.action_times -> $4))
      ELSE p.action_times - $4 END
  WHERE p.xmin = (SELECT row_version FROM old)
  RETURNING p.total_actions, p.updated_at AS at, p.recent,
    coalesce(p.restriction IN ('ban', 'hide') AND (p.restricted_until IS NULL OR p.restricted_until > p.updated_at),
      false) AS hidden
), scored AS (
  INSERT INTO user_score AS s
    (board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
  SELECT board, $1, $3, $8, 1, me.at, me.at, 1, me.hidden FROM me, unnest($9::text[]) AS b (board)
  ON CONFLICT (board, user_id) DO UPDATE SET username = excluded.username, version = s.version + 1,
    score = CASE WHEN s.board = ANY($10::text[]) AND s.total_actions > 0 THEN greatest(s.score, excluded.score)
      WHEN s.board = ANY($15::text[]) THEN excluded.score ELSE s.score + excluded.score END,
    reached_at = CASE WHEN s.total_actions > 0 AND (s.board = ANY($10::text[]) AND s.score >= excluded.score
        OR s.board = ANY($15::text[]) AND s.score = excluded.score) THEN s.reached_at ELSE excluded.reached_at END,
    last_updated = excluded.last_updated, total_actions = s.total_actions + 1, hidden = excluded.hidden
  RETURNING board, score, version, reached_at, total_actions
), result AS (
  SELECT scored.*, scored.score - coalesce(previous.score, 0) AS increase, array_position($9::text[], scored.board) AS n
  FROM scored LEFT JOIN previous USING (board)
), first AS (
  SELECT score, increase, (SELECT name FROM unnest($16::text[], $17::bigint[]) AS t (name, least)
    WHERE least <= score ORDER BY least DESC LIMIT 1) AS tier
  FROM result WHERE n = 1
), logged AS (
  INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata,
    metadata_checksum, body_sha256, ip_address, device_info, request_signature, response)
  SELECT $1, $2, $4, first.increase, $5, me.at, $6::jsonb, $7, $7, $18::inet, $19, $20,
    jsonb_build_object('actionId', $2::text, 'userId', $1::text, 'username', $3::text, 'score', first.score,
      'scoreIncrease', first.increase, 'totalActions', me.total_actions, 'tier', first.tier,
      'lastUpdated', to_char(me.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
  FROM me, first
), sent AS (
  INSERT INTO outbox (event_id, subject, payload)
  SELECT $21, $22, convert_to(json_build_object('eventId', $21::uuid, 'updates', json_agg(json_build_object(
    'board', r.board, 'userId', $1::text, 'username', $3::text, 'score', r.score, 'version', r.version,
    'reachedAt', to_char(r.reached_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'hidden', me.hidden,
    'totalActions', r.total_actions, 'actionId', $2::text, 'actionType', $4::text, 'scoreIncrease', r.increase,
    'acceptedAt', to_char(me.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'ipAddress', $18::text,
    'traceparent', NULL) ORDER BY r.n))::text, 'UTF8')
  FROM me, result r HAVING count(*) > 0
  RETURNING payload
)
SELECT now.at, now.restriction, now.recent, old.of_type, seen.body_sha256, seen.response,
  me.total_actions, me.at, me.recent, first.score, first.increase, first.tier, sent.payload
FROM now LEFT JOIN old ON true LEFT JOIN seen ON true LEFT JOIN me ON true LEFT JOIN first ON true LEFT JOIN sent ON true
`

// Commit decides and writes one update; back only after its commit.
func (s *EachStore) Commit(ctx context.Context, update *Update) (*Outcome, error) {
	for range attempts {
		outcome, err := s.attempt(ctx, update)
		if outcome != nil || err != nil {
			return outcome, err
		}
	}
	return nil, errOverloaded
}

// attempt gives neither outcome nor error where another update of the same player came in between.
func (s *EachStore) attempt(ctx context.Context, update *Update) (*Outcome, error) {
	award := update.Award
	if award == nil { // only the look-ups that come before the rules; a limit of none lets nothing pass
		award = &Award{Type: update.Type}
	}
	limit := s.user
	if update.Award == nil {
		limit.Count = 0
	}
	arguments := s.arguments(update, award, limit)
	var (
		now, at                time.Time
		acceptedAt             *time.Time
		restriction, tier      *string
		recent, recentNow      []time.Time
		ofType                 []float64
		loggedSHA, payload     []byte
		logged                 *Answer
		total, score, increase *int64
		eventID                = arguments[20].(uuid.UUID)
		row                    = s.pool.QueryRow(ctx, commitOne, arguments...)
	)
	err := row.Scan(&now, &restriction, &recent, &ofType, &loggedSHA, &logged, &total, &acceptedAt, &recentNow, &score,
		&increase, &tier, &payload)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if total != nil {
		at = *acceptedAt
		s.outbox.Send(Event{eventID, scoreUpdated, payload})
		remaining, reset := standing(s.user, recentNow, at)
		answer := Answer{update.ActionID, update.UserID, update.Username, *score, *increase, *total, tier,
			at.UTC().Format(timeFormat)}
		return &Outcome{Answer: answer, Remaining: remaining, Reset: reset}, nil
	}
	return s.refused(update, award, now, restriction, recent, ofType, loggedSHA, logged)
}

// refused says why the statement wrote nothing; neither outcome nor error if for no reason of its own.
func (s *EachStore) refused(update *Update, award *Award, now time.Time, restriction *string, recent []time.Time,
	ofType []float64, loggedSHA []byte, logged *Answer) (*Outcome, error) {
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
	if refusal := limited(s.user, award, recent, times, now); refusal != nil {
		return nil, refusal
	}
	return nil, nil
}

func (s *EachStore) arguments(update *Update, award *Award, limit Limit) []any {
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
	windows, counts := make([]float64, len(award.Limits)), make([]int32, len(award.Limits))
	for i, each := range award.Limits {
		windows[i], counts[i] = each.Window.Seconds(), int32(each.Count)
		longest = max(longest, windows[i])
	}
	tiers, least := make([]string, len(s.rules.tiers)), make([]int64, len(s.rules.tiers))
	for i, tier := range s.rules.tiers {
		tiers[i], least[i] = tier.Name, tier.MinScore
	}
	return []any{update.UserID, update.ActionID, update.Username, update.Type, update.Timestamp, string(update.Metadata),
		update.BodySHA, award.Points, boards, best, limit.Count, longest, windows, counts, latest, tiers, least,
		update.IPAddress, update.Device, update.Signature, uuid.New(), scoreUpdated}
}
