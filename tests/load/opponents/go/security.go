package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// SecurityState is the revoked sessions and restricted users, fed by the watch of a JetStream key-value bucket.
type SecurityState struct {
	revoked    sync.Map
	restricted sync.Map
}

type restriction struct {
	Kind  string   `json:"kind"`
	Until *float64 `json:"until"`
}

func (s *SecurityState) isRevoked(sid string) bool {
	_, found := s.revoked.Load(sid)
	return found
}

// restriction of a user that forbids updates, or nil.
func (s *SecurityState) restriction(user string) *Refusal {
	value, found := s.restricted.Load(user)
	if !found {
		return nil
	}
	held := value.(restriction)
	if held.Until != nil && *held.Until <= float64(time.Now().UnixMicro())/1e6 {
		return nil
	}
	return restrictionRefusal(held.Kind)
}

func restrictionRefusal(kind string) *Refusal {
	switch kind {
	case "ban":
		return &Refusal{Slug: "user-banned", Status: 403, Detail: "this user is banned"}
	case "block":
		return &Refusal{Slug: "blocked-by-anomaly", Status: 403, Detail: "this user is blocked for unusual activity"}
	}
	return nil
}

// watch returns when the present state is known, and follows it in the background.
func (s *SecurityState) watch(ctx context.Context, stream jetstream.JetStream) error {
	bucket, err := stream.KeyValue(ctx, "PODIUM_SECURITY")
	if err != nil {
		return err
	}
	watcher, err := bucket.WatchAll(ctx)
	if err != nil {
		return err
	}
	for entry := range watcher.Updates() {
		if entry == nil { // the end of what there is already
			break
		}
		s.apply(entry)
	}
	go func() {
		for entry := range watcher.Updates() {
			s.apply(entry)
		}
	}()
	return nil
}

func (s *SecurityState) apply(entry jetstream.KeyValueEntry) {
	kind, name, _ := strings.Cut(entry.Key(), ".")
	gone := entry.Operation() != jetstream.KeyValuePut
	switch kind {
	case "revoked":
		if gone {
			s.revoked.Delete(name)
		} else {
			s.revoked.Store(name, true)
		}
	case "restricted":
		user, err := base64.RawURLEncoding.DecodeString(name)
		if err != nil {
			return
		}
		var held restriction
		if gone || json.Unmarshal(entry.Value(), &held) != nil {
			s.restricted.Delete(string(user))
		} else {
			s.restricted.Store(string(user), held)
		}
	}
}
