// An opponent of Podium's scores service: the same route with the same checks, answers, schema and durability, as a Go
// engineer would write it: net/http, a pgx pool, go-redis, nats.go, golang-jwt.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
)

func main() {
	if err := run(); err != nil {
		slog.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config, err := readConfig()
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	connection, err := nats.Connect(config.NatsURL, nats.UserInfo(config.NatsUser, config.NatsPassword),
		nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
	if err != nil {
		return err
	}
	defer connection.Close()
	stream, err := jetstream.New(connection, jetstream.WithPublishAsyncMaxPending(maxPending),
		jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return err
	}
	security := &SecurityState{}
	if err = security.watch(ctx, stream); err != nil {
		return err
	}
	verifier, err := newTokenVerifier(config, security)
	if err != nil {
		return err
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: config.RedisNodes, Password: config.RedisPassword})
	defer client.Close()

	outbox := newOutbox(pool, stream)
	background, cancel := context.WithCancel(context.Background())
	defer cancel()
	outbox.start(background)
	user := Limit{"user", config.UserLimit, userWindow}
	var store Store = &EachStore{pool, outbox, config.Rules, user}
	if config.Batched {
		store = newBatcher(background, &GroupStore{pool, outbox, config.Rules, user})
	}
	return serve(ctx, config.Address, &Handler{config, verifier, security, &NonceStore{client: client}, store})
}

// planner has the server keep to prepared plans and to look-ups by index, as Podium does: every statement here looks up
// a few keys, and a plan that was made while a table was small may scan it for ever.
var planner = map[string]string{
	"jit": "off", "plan_cache_mode": "force_generic_plan",
	"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
}

func openPool(ctx context.Context, config *Config) (*pgxpool.Pool, error) {
	settings, err := pgxpool.ParseConfig(config.DatabaseURL)
	if err != nil {
		return nil, err
	}
	settings.MaxConns = int32(config.DatabasePool)
	for name, value := range planner {
		settings.ConnConfig.RuntimeParams[name] = value
	}
	return pgxpool.NewWithConfig(ctx, settings)
}

func serve(ctx context.Context, address string, handler http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("POST /api/v1/scores/update", handler)
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
