package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

const (
	maxTimestampSkew = 300 * time.Second
	userWindow       = time.Minute
	timeFormat       = "2006-01-02T15:04:05.000000Z"
)

// Update is a well-formed, authenticated update. Of Award and Refused one is nil.
type Update struct {
	UserID    string
	Username  string
	ActionID  string
	Type      string
	Timestamp time.Time
	Metadata  json.RawMessage
	BodySHA   []byte
	Award     *Award
	Refused   *Refusal
	IPAddress string
	Device    string
	Signature string
}

// Answer is the body of a 200, kept with the action for replays.
type Answer struct {
	ActionID      string  `json:"actionId"`
	UserID        string  `json:"userId"`
	Username      string  `json:"username"`
	Score         int64   `json:"score"`
	ScoreIncrease int64   `json:"scoreIncrease"`
	TotalActions  int64   `json:"totalActions"`
	Tier          *string `json:"tier"`
	LastUpdated   string  `json:"lastUpdated"`
}

// Outcome of an update that was counted now, or before (Replayed).
type Outcome struct {
	Answer    Answer
	Replayed  bool
	Remaining int
	Reset     time.Duration
}

// Store commits updates; the error is a *Refusal where an update is refused.
type Store interface {
	Commit(ctx context.Context, update *Update) (*Outcome, error)
}

// Event is a row of the outbox.
type Event struct {
	ID      uuid.UUID
	Subject string
	Payload []byte
}

// Change is one entry of the event score.updated.
type Change struct {
	Board         string  `json:"board"`
	UserID        string  `json:"userId"`
	Username      string  `json:"username"`
	Score         int64   `json:"score"`
	Version       int64   `json:"version"`
	ReachedAt     string  `json:"reachedAt"`
	Hidden        bool    `json:"hidden"`
	TotalActions  int64   `json:"totalActions"`
	ActionID      string  `json:"actionId"`
	ActionType    string  `json:"actionType"`
	ScoreIncrease int64   `json:"scoreIncrease"`
	AcceptedAt    string  `json:"acceptedAt"`
	IPAddress     string  `json:"ipAddress"`
	Traceparent   *string `json:"traceparent"`
}

func staleTimestamp(now, timestamp time.Time) *Refusal {
	if now.Sub(timestamp).Abs() <= maxTimestampSkew {
		return nil
	}
	return &Refusal{Slug: "stale-timestamp", Status: 422, Detail: "timestamp is more than 300 s off the server's clock"}
}

// replay is the outcome of an actionId that was used before.
func replay(bodySHA, loggedSHA []byte, logged Answer) (*Outcome, error) {
	if string(bodySHA) == string(loggedSHA) {
		return &Outcome{Answer: logged, Replayed: true}, nil
	}
	return nil, &Refusal{Slug: "action-id-reused", Status: 422, Detail: "this actionId was used with another body"}
}

// standing under a limit of a user with these ascending acceptance times: what remains, and when more is freed.
func standing(limit Limit, times []time.Time, now time.Time) (remaining int, reset time.Duration) {
	counted := within(times, limit.Window, now)
	remaining = max(0, limit.Count-len(counted))
	if len(counted) == 0 {
		return remaining, 0
	}
	leaves := counted[0]
	if remaining == 0 {
		leaves = counted[len(counted)-limit.Count]
	}
	return remaining, leaves.Add(limit.Window).Sub(now)
}

// within gives those of the ascending times that still count.
func within(times []time.Time, window time.Duration, now time.Time) []time.Time {
	for i, each := range times {
		if each.After(now.Add(-window)) {
			return times[i:]
		}
	}
	return nil
}

// limited is the refusal by the limit with the longest wait, if any is exhausted.
func limited(user Limit, award *Award, recent, ofType []time.Time, now time.Time) *Refusal {
	var refusal *Refusal
	check := func(limit Limit, times []time.Time) {
		remaining, reset := standing(limit, times, now)
		if remaining == 0 && (refusal == nil || reset > refusal.RetryAfter) {
			refusal = &Refusal{"rate-limited", 429, "too many updates were accepted", &limit, reset}
		}
	}
	check(user, recent)
	for _, limit := range award.Limits {
		check(limit, ofType)
	}
	return refusal
}
