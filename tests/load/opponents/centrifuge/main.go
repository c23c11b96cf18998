// An opponent of `make bench-fanout`: snapshots to all watchers by the library centrifuge, which is what Centrifugo is
// built on, set up for nothing but fan-out: memory broker, no history, no presence, no join and leave messages, no
// compression. Snapshots come from NATS as Podium's do, and go to one channel that the server subscribes everyone to.
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

	"github.com/centrifugal/centrifuge"
	"github.com/nats-io/nats.go"
)

const (
	subject = "podium.top.default"
	channel = "default"
	path    = "/connection/websocket"
	// pingInterval is that of Podium's heartbeats.
	pingInterval = 25 * time.Second
	// readBuffer is small: what clients send is one command and pongs. Without it each connection keeps the 4 KiB of
	// net/http's.
	readBuffer = 512
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
	node, err := newNode()
	if err != nil {
		return err
	}
	connection, err := nats.Connect(variable("PODIUM_NATS_URL", "nats://127.0.0.1:4222"),
		nats.UserInfo(variable("PODIUM_NATS_USER", ""), variable("PODIUM_NATS_PASSWORD", "")),
		nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Subscribe(subject, func(message *nats.Msg) {
		if _, err := node.Publish(channel, message.Data); err != nil {
			slog.Error("a snapshot could not be published", "error", err)
		}
	}); err != nil {
		return err
	}
	if err := connection.Flush(); err != nil { // the server knows of the subscription
		return err
	}
	address := variable("PODIUM_HOST", "127.0.0.1") + ":" + variable("PODIUM_PORT", "8080")
	return serve(ctx, address, node)
}

// newNode is a running node; its broker is the one in memory unless another is set.
func newNode() (*centrifuge.Node, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return nil, err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{}, // anonymous
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {}},
		}, nil
	})
	return node, node.Run()
}

func serve(ctx context.Context, address string, node *centrifuge.Node) error {
	mux := http.NewServeMux()
	mux.Handle(path, centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize:     readBuffer,
		UseWriteBufferPool: true,
		// Pongs are rare; without this each reader would keep the deep stack of its one command for ever.
		ProcessCommandsOffReadLoop: true,
		PingPongConfig:             centrifuge.PingPongConfig{PingInterval: pingInterval},
	}))
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	// A shutdown that does not end in time is cut off with the process.
	return ignoreTimeout(errors.Join(node.Shutdown(last), server.Shutdown(last)))
}

func ignoreTimeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func variable(name, otherwise string) string {
	if value, given := os.LookupEnv(name); given {
		return value
	}
	return otherwise
}
