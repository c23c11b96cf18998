package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	relayInterval  = 500 * time.Millisecond
	relayLimit     = 1024
	deleteInterval = 50 * time.Millisecond
	maxPending     = 4096
	publishTimeout = 2 * time.Second
)

// Outbox sends committed events to JetStream outside the request's way and deletes what was acknowledged. What a crash
// or an outage left is sent by the relay when it is a second old.
type Outbox struct {
	pool    *pgxpool.Pool
	stream  jetstream.JetStream
	events  chan Event
	pending chan pendingEvent

	mutex        sync.Mutex
	acknowledged []uuid.UUID
}

type pendingEvent struct {
	id     uuid.UUID
	future jetstream.PubAckFuture
}

func newOutbox(pool *pgxpool.Pool, stream jetstream.JetStream) *Outbox {
	return &Outbox{pool: pool, stream: stream, events: make(chan Event, maxPending),
		pending: make(chan pendingEvent, maxPending)}
}

// start the work in the background; it ends with ctx.
func (o *Outbox) start(ctx context.Context) {
	go o.send(ctx)
	go o.collect(ctx)
	go repeat(ctx, deleteInterval, o.delete)
	go repeat(ctx, relayInterval, o.relay)
}

// Send hands an event to the background. It never waits: what finds the buffer full is left to the relay.
func (o *Outbox) Send(event Event) {
	select {
	case o.events <- event:
	default:
	}
}

// send publishes what was handed over; acknowledgements are waited for elsewhere, so many are on the way at once.
func (o *Outbox) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-o.events:
			if future, err := o.publish(event); err == nil {
				o.pending <- pendingEvent{event.ID, future}
			}
		}
	}
}

func (o *Outbox) publish(event Event) (jetstream.PubAckFuture, error) {
	message := nats.NewMsg(event.Subject)
	message.Data = event.Payload
	message.Header.Set(jetstream.MsgIDHeader, event.ID.String())
	return o.stream.PublishMsgAsync(message)
}

func (o *Outbox) collect(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case sent := <-o.pending:
			if acknowledged(ctx, sent.future) {
				o.mutex.Lock()
				o.acknowledged = append(o.acknowledged, sent.id)
				o.mutex.Unlock()
			}
		}
	}
}

// acknowledged waits for JetStream's word; the future fails by itself after publishTimeout.
func acknowledged(ctx context.Context, future jetstream.PubAckFuture) bool {
	select {
	case <-future.Ok():
		return true
	case <-future.Err():
	case <-ctx.Done():
	}
	return false
}

func (o *Outbox) delete(ctx context.Context) error {
	o.mutex.Lock()
	ids := o.acknowledged
	o.acknowledged = nil
	o.mutex.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error { return deleteEvents(ctx, tx, ids) })
}

// deleteEvents need not be flushed: a row that a crash brings back is sent again and known by its id.
func deleteEvents(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	batch := &pgx.Batch{}
	batch.Queue("SET LOCAL synchronous_commit TO off")
	batch.Queue("DELETE FROM outbox WHERE event_id = ANY($1::uuid[])", ids)
	return tx.SendBatch(ctx, batch).Close()
}

func (o *Outbox) relay(ctx context.Context) error {
	return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT event_id, subject, payload FROM outbox
			WHERE created_at < clock_timestamp() - interval '1 second'
			ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`, relayLimit)
		if err != nil {
			return err
		}
		events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
		if err != nil || len(events) == 0 {
			return err
		}
		futures := make([]jetstream.PubAckFuture, len(events))
		for i, event := range events {
			if futures[i], err = o.publish(event); err != nil {
				return err
			}
		}
		var sent []uuid.UUID
		for i, future := range futures {
			if acknowledged(ctx, future) {
				sent = append(sent, events[i].ID)
			}
		}
		return deleteEvents(ctx, tx, sent)
	})
}

// repeat calls work at an interval until ctx ends.
func repeat(ctx context.Context, interval time.Duration, work func(context.Context) error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := work(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("the outbox could not be worked on", "error", err)
			}
		}
	}
}
