package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	lockPlayers = `SELECT user_id, username, total_actions, recent, action_times, restriction, restricted_until
		FROM player WHERE user_id = ANY($1::text[]) ORDER BY user_id FOR UPDATE`
	addPlayers = `INSERT INTO player (user_id, username) SELECT user_id, username
		FROM unnest($1::text[], $2::text[]) AS new (user_id, username) ORDER BY user_id COLLATE "C" ON CONFLICT DO NOTHING`
	lookUpActions = `SELECT asked.user_id, asked.action_id, a.body_sha256, a.response, clock_timestamp()
		FROM unnest($1::text[], $2::text[]) AS asked (user_id, action_id)
		LEFT JOIN action_key k ON k.user_id = asked.user_id AND k.action_id = asked.action_id
		LEFT JOIN action_log a ON a.accepted_at = k.accepted_at AND a.user_id = k.user_id AND a.action_id = k.action_id`
	lockScores = `SELECT s.board, s.user_id, s.score, s.version, s.reached_at, s.total_actions
		FROM unnest($1::text[], $2::text[]) AS asked (board, user_id)
		JOIN user_score s ON s.board = asked.board AND s.user_id = asked.user_id
		ORDER BY s.user_id, s.board FOR UPDATE OF s`
	writeLog = `INSERT INTO action_log (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at,
			metadata, metadata_checksum, body_sha256, ip_address, device_info, request_signature, response)
		SELECT user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata::jsonb,
			body_sha256, body_sha256, ip_address::inet, device_info, request_signature, response::jsonb
		FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::text[],
			$8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[])
			AS new (user_id, action_id, action_type, score_increase, client_timestamp, accepted_at, metadata, body_sha256,
				ip_address, device_info, request_signature, response)`
	writeScores = `INSERT INTO user_score AS s
			(board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[],
			$7::timestamptz[], $8::bigint[], $9::boolean[])
		ON CONFLICT (board, user_id) DO UPDATE SET username = excluded.username, score = excluded.score,
			version = excluded.version, reached_at = excluded.reached_at, last_updated = excluded.last_updated,
			total_actions = excluded.total_actions, hidden = excluded.hidden`
	writePlayers = `UPDATE player p SET username = new.username, total_actions = new.total_actions,
			recent = new.recent::timestamptz[], action_times = new.action_times::jsonb, updated_at = new.updated_at
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[])
			AS new (user_id, username, total_actions, recent, action_times, updated_at)
		WHERE p.user_id = new.user_id`
	writeEvent = `INSERT INTO outbox (event_id, subject, payload) VALUES ($1, $2, $3)`
)

var errPlayersMissing = errors.New("some users have no row to lock yet")

// GroupStore commits many updates in one transaction: one round trip reads under locks, a second one writes.
type GroupStore struct {
	pool   *pgxpool.Pool
	outbox *Outbox
	rules  *Rules
	user   Limit
}

type player struct {
	UserID          string
	Username        string
	TotalActions    int64
	Recent          []time.Time
	ActionTimes     map[string][]float64
	Restriction     *string
	RestrictedUntil *time.Time
	changed         bool
}

type scoreKey struct{ board, user string }

type score struct {
	Board        string
	UserID       string
	Score        int64
	Version      int64
	ReachedAt    time.Time
	TotalActions int64
	username     string
	lastUpdated  time.Time
	hidden       bool
	changed      bool
}

type actionKey struct{ user, action string }

type loggedAction struct {
	bodySHA []byte
	answer  Answer
}

// state is what was read under the locks, and what has to be written.
type state struct {
	now     time.Time
	players map[string]*player
	scores  map[scoreKey]*score
	logged  map[actionKey]loggedAction

	accepted []acceptedUpdate
	changes  []Change
}

type acceptedUpdate struct {
	update *Update
	answer Answer
	at     time.Time
}

// CommitAll settles a batch; one that fails is taken apart, so that an update cannot spoil the others'.
func (s *GroupStore) CommitAll(ctx context.Context, updates []*Update) []settled {
	results, event, err := s.transaction(ctx, updates)
	if errors.Is(err, errPlayersMissing) {
		if err = s.addPlayers(ctx, updates); err == nil {
			results, event, err = s.transaction(ctx, updates)
		}
	}
	switch {
	case err == nil:
		if event != nil {
			s.outbox.Send(*event)
		}
		return results
	case len(updates) == 1:
		return []settled{{nil, err}}
	}
	slog.Warn("a batch failed, its updates go one by one", "error", err)
	results = nil
	for _, update := range updates {
		results = append(results, s.CommitAll(ctx, []*Update{update})...)
	}
	return results
}

func (s *GroupStore) addPlayers(ctx context.Context, updates []*Update) error {
	users, names := make([]string, len(updates)), make([]string, len(updates))
	for i, update := range updates {
		users[i], names[i] = update.UserID, update.Username
	}
	_, err := s.pool.Exec(ctx, addPlayers, users, names)
	return err
}

func (s *GroupStore) transaction(ctx context.Context, updates []*Update) (results []settled, event *Event, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		state, err := read(ctx, tx, updates)
		if err != nil {
			return err
		}
		results = make([]settled, len(updates))
		for i, update := range updates {
			results[i].outcome, results[i].err = s.decide(state, update, state.now.Add(time.Duration(i)*time.Microsecond))
		}
		if len(state.accepted) == 0 {
			return nil
		}
		if event, err = state.event(); err != nil {
			return err
		}
		return state.write(ctx, tx, event)
	})
	return results, event, err
}

func read(ctx context.Context, tx pgx.Tx, updates []*Update) (*state, error) {
	s := &state{players: map[string]*player{}, scores: map[scoreKey]*score{}, logged: map[actionKey]loggedAction{}}
	users, actions := make([]string, len(updates)), make([]string, len(updates))
	var boards, scoreUsers []string
	for i, update := range updates {
		users[i], actions[i] = update.UserID, update.ActionID
		if update.Award != nil {
			for _, board := range update.Award.Boards {
				boards, scoreUsers = append(boards, board.Name), append(scoreUsers, update.UserID)
			}
		}
	}
	distinct := slices.Clone(users)
	slices.Sort(distinct)
	distinct = slices.Compact(distinct)
	batch := &pgx.Batch{}
	batch.Queue(lockPlayers, distinct).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*player, error) {
			var p player
			return &p, row.Scan(&p.UserID, &p.Username, &p.TotalActions, &p.Recent, &p.ActionTimes, &p.Restriction,
				&p.RestrictedUntil)
		})
		for _, each := range found {
			s.players[each.UserID] = each
		}
		return err
	})
	// A statement of its own: its snapshot must be younger than the locks.
	batch.Queue(lookUpActions, users, actions).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var key actionKey
			var sum []byte
			var response []byte
			if err := rows.Scan(&key.user, &key.action, &sum, &response, &s.now); err != nil {
				return err
			}
			if sum != nil {
				logged := loggedAction{bodySHA: sum}
				if err := json.Unmarshal(response, &logged.answer); err != nil {
					return err
				}
				s.logged[key] = logged
			}
		}
		return rows.Err()
	})
	batch.Queue(lockScores, boards, scoreUsers).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var each score
			err := rows.Scan(&each.Board, &each.UserID, &each.Score, &each.Version, &each.ReachedAt, &each.TotalActions)
			if err != nil {
				return err
			}
			s.scores[scoreKey{each.Board, each.UserID}] = &each
		}
		return rows.Err()
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	if len(s.players) < len(distinct) {
		return nil, errPlayersMissing
	}
	return s, nil
}

func (s *state) event() (*Event, error) {
	id := uuid.New()
	payload, err := json.Marshal(struct {
		EventID uuid.UUID `json:"eventId"`
		Updates []Change  `json:"updates"`
	}{id, s.changes})
	return &Event{id, scoreUpdated, payload}, err
}

func (s *state) write(ctx context.Context, tx pgx.Tx, event *Event) error {
	batch := &pgx.Batch{}
	if err := s.queueLog(batch); err != nil {
		return err
	}
	s.queueScores(batch)
	if err := s.queuePlayers(batch); err != nil {
		return err
	}
	batch.Queue(writeEvent, event.ID, event.Subject, event.Payload)
	return tx.SendBatch(ctx, batch).Close()
}

func (s *state) queueLog(batch *pgx.Batch) error {
	var users, actions, types, metadata, addresses, devices, signatures, responses []string
	var increases []int64
	var timestamps, times []time.Time
	var sums [][]byte
	for _, each := range s.accepted {
		u := each.update
		response, err := json.Marshal(each.answer)
		if err != nil {
			return err
		}
		users, actions, types = append(users, u.UserID), append(actions, u.ActionID), append(types, u.Type)
		increases = append(increases, each.answer.ScoreIncrease)
		timestamps, times = append(timestamps, u.Timestamp), append(times, each.at)
		metadata, sums = append(metadata, string(u.Metadata)), append(sums, u.BodySHA)
		addresses, devices = append(addresses, u.IPAddress), append(devices, u.Device)
		signatures, responses = append(signatures, u.Signature), append(responses, string(response))
	}
	batch.Queue(writeLog, users, actions, types, increases, timestamps, times, metadata, sums, addresses, devices,
		signatures, responses)
	return nil
}

func (s *state) queueScores(batch *pgx.Batch) {
	var boards, users, names []string
	var scores, versions, totals []int64
	var reached, updated []time.Time
	var hidden []bool
	for _, each := range s.scores {
		if !each.changed {
			continue
		}
		boards, users, names = append(boards, each.Board), append(users, each.UserID), append(names, each.username)
		scores, versions = append(scores, each.Score), append(versions, each.Version)
		reached, updated = append(reached, each.ReachedAt), append(updated, each.lastUpdated)
		totals, hidden = append(totals, each.TotalActions), append(hidden, each.hidden)
	}
	batch.Queue(writeScores, boards, users, names, scores, versions, reached, updated, totals, hidden)
}

func (s *state) queuePlayers(batch *pgx.Batch) error {
	var users, names, recent, actionTimes []string
	var totals []int64
	var updated []time.Time
	for _, each := range s.players {
		if !each.changed {
			continue
		}
		times, err := json.Marshal(each.ActionTimes)
		if err != nil {
			return err
		}
		users, names, totals = append(users, each.UserID), append(names, each.Username), append(totals, each.TotalActions)
		recent, actionTimes = append(recent, arrayOf(each.Recent)), append(actionTimes, string(times))
		updated = append(updated, each.Recent[len(each.Recent)-1])
	}
	batch.Queue(writePlayers, users, names, totals, recent, actionTimes, updated)
	return nil
}

// arrayOf is the text form of a timestamptz[]: arrays of arrays cannot differ in length in PostgreSQL.
func arrayOf(times []time.Time) string {
	var text bytes.Buffer
	text.WriteByte('{')
	for i, each := range times {
		if i > 0 {
			text.WriteByte(',')
		}
		text.Write(each.UTC().AppendFormat(nil, timeFormat))
	}
	text.WriteByte('}')
	return text.String()
}
