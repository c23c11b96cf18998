package main

import (
	"context"
	"time"
)

// The sizes of Podium's own group commit.
const (
	maxBatch    = 256
	maxInFlight = 3
	maxQueue    = 4096
	linger      = time.Millisecond
)

type settled struct {
	outcome *Outcome
	err     error
}

type waiting struct {
	update *Update
	done   chan settled
}

// Batcher gathers updates while batches are in flight and commits them together.
type Batcher struct {
	queue    chan waiting
	inFlight chan struct{}
	commit   func(context.Context, []*Update) []settled
}

func newBatcher(ctx context.Context, store *GroupStore) *Batcher {
	b := &Batcher{make(chan waiting, maxQueue), make(chan struct{}, maxInFlight), store.CommitAll}
	for range maxInFlight {
		go b.work(ctx)
	}
	return b
}

// Commit waits for the batch that takes the update.
func (b *Batcher) Commit(ctx context.Context, update *Update) (*Outcome, error) {
	one := waiting{update, make(chan settled, 1)}
	select {
	case b.queue <- one:
	default:
		return nil, errOverloaded
	}
	select {
	case result := <-one.done:
		return result.outcome, result.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *Batcher) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-b.queue:
			batch := append(make([]waiting, 0, maxBatch), first)
			if len(b.inFlight) > 0 && len(b.queue) < maxBatch-1 {
				time.Sleep(linger)
			}
			b.inFlight <- struct{}{}
			batch = b.fill(batch)
			updates := make([]*Update, len(batch))
			for i, each := range batch {
				updates[i] = each.update
			}
			for i, result := range b.commit(ctx, updates) {
				batch[i].done <- result
			}
			<-b.inFlight
		}
	}
}

func (b *Batcher) fill(batch []waiting) []waiting {
	for len(batch) < maxBatch {
		select {
		case next := <-b.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}
