package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	nonceTTL     = 660 * time.Second
	nonceTimeout = 250 * time.Millisecond
	noncePause   = time.Second
)

// NonceStore remembers nonces in Redis. It lets updates pass while Redis is away: a replay meets its actionId.
type NonceStore struct {
	client      *redis.ClusterClient
	pausedUntil atomic.Int64
}

// spend takes the nonce; false if it was spent before.
func (n *NonceStore) spend(ctx context.Context, keyID, nonce string) bool {
	if time.Now().UnixNano() < n.pausedUntil.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, nonceTimeout)
	defer cancel()
	sum := sha256.Sum256([]byte(nonce))
	fresh, err := n.client.SetNX(ctx, "nonce:"+keyID+":"+hex.EncodeToString(sum[:]), 1, nonceTTL).Result()
	if err != nil {
		n.pausedUntil.Store(time.Now().Add(noncePause).UnixNano())
		slog.Warn("nonce store is away", "error", err)
		return true
	}
	return fresh
}
