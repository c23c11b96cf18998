package main

import (
	"time"
)

// decide one update on the state under the locks; what it changes is seen by the next one of the batch.
func (s *GroupStore) decide(state *state, update *Update, now time.Time) (*Outcome, error) {
	player := state.players[update.UserID]
	restricted := player.Restriction != nil && (player.RestrictedUntil == nil || player.RestrictedUntil.After(now))
	if restricted {
		if refusal := restrictionRefusal(*player.Restriction); refusal != nil {
			return nil, refusal
		}
	}
	if logged, found := state.logged[actionKey{update.UserID, update.ActionID}]; found {
		return replay(update.BodySHA, logged.bodySHA, logged.answer)
	}
	if refusal := staleTimestamp(now, update.Timestamp); refusal != nil {
		return nil, refusal
	}
	if update.Refused != nil {
		return nil, update.Refused
	}
	at := now
	if count := len(player.Recent); count > 0 && !player.Recent[count-1].Before(at) {
		at = player.Recent[count-1].Add(time.Microsecond)
	}
	award := update.Award
	ofType := make([]time.Time, len(player.ActionTimes[award.Type]))
	for i, seconds := range player.ActionTimes[award.Type] {
		ofType[i] = time.UnixMicro(int64(seconds * 1e6))
	}
	moves := make([]score, len(award.Boards))
	for i, board := range award.Boards {
		moves[i] = move(state.scores[scoreKey{board.Name, update.UserID}], board, update, at, restricted)
		if moves[i].Score > maxScore || moves[i].Score < -maxScore {
			return nil, invalidData("the score would leave the range of scores")
		}
	}
	if refusal := limited(s.user, award, player.Recent, ofType, at); refusal != nil {
		return nil, refusal
	}
	answer := s.accept(state, player, update, moves, at)
	remaining, reset := standing(s.user, player.Recent, at)
	return &Outcome{Answer: answer, Remaining: remaining, Reset: reset}, nil
}

func (s *GroupStore) accept(state *state, player *player, update *Update, moves []score, at time.Time) Answer {
	award := update.Award
	player.changed = true
	player.Username = update.Username
	player.TotalActions++
	player.Recent = append(within(player.Recent, userWindow, at), at)
	noteActionTime(player, award, at)
	var answer Answer
	text := at.UTC().Format(timeFormat)
	for i := range moves {
		moved := &moves[i]
		key := scoreKey{moved.Board, moved.UserID}
		increase := moved.Score
		if before := state.scores[key]; before != nil {
			increase -= before.Score
		}
		state.scores[key] = moved
		state.changes = append(state.changes, Change{
			moved.Board, moved.UserID, moved.username, moved.Score, moved.Version, moved.ReachedAt.UTC().Format(timeFormat),
			moved.hidden, moved.TotalActions, update.ActionID, update.Type, increase, text, update.IPAddress, nil,
		})
		if i == 0 {
			answer = Answer{update.ActionID, update.UserID, update.Username, moved.Score, increase, player.TotalActions,
				s.rules.tier(moved.Score), text}
		}
	}
	state.logged[actionKey{update.UserID, update.ActionID}] = loggedAction{update.BodySHA, answer}
	state.accepted = append(state.accepted, acceptedUpdate{update, answer, at})
	return answer
}

// move is the user's score on a board after the award.
func move(old *score, board Board, update *Update, at time.Time, restricted bool) score {
	if old == nil {
		old = &score{}
	}
	scored := old.TotalActions > 0
	value := update.Award.Points
	switch {
	case board.Operator == "Increment":
		value += old.Score
	case board.Operator == "Best" && scored:
		value = max(value, old.Score)
	}
	moved := score{board.Name, update.UserID, value, old.Version + 1, at, old.TotalActions + 1, update.Username, at,
		restricted, true}
	if scored && value == old.Score {
		moved.ReachedAt = old.ReachedAt
	}
	return moved
}

// noteActionTime keeps the times that the limits of this action type still need.
func noteActionTime(player *player, award *Award, at time.Time) {
	if len(award.Limits) == 0 {
		delete(player.ActionTimes, award.Type)
		return
	}
	longest := time.Duration(0)
	for _, limit := range award.Limits {
		longest = max(longest, limit.Window)
	}
	now := float64(at.UnixMicro()) / 1e6
	var kept []float64
	for _, each := range player.ActionTimes[award.Type] {
		if each > now-longest.Seconds() {
			kept = append(kept, each)
		}
	}
	player.ActionTimes[award.Type] = append(kept, now)
}
