// The client of `make bench-fanout`: very many WebSocket connections that only listen, and look at every frame.
//
// It reads commands from standard input, one JSON object in a line, and answers each with one line on standard output:
// connect, begin, end, cut, disconnect. Between commands it reads what comes and answers pings, in one thread around epoll:
// the machine's other core is for the server.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// Command is one line of standard input. Which fields count depends on Name.
type Command struct {
	Name string `json:"command"`
	// Connect is what `connect` opens.
	Connect Connect `json:"connect"`
	// `end` waits at most TimeoutSeconds until every connection has this snapshot, or a newer one.
	Epoch          int64   `json:"epoch"`
	Version        int64   `json:"version"`
	TimeoutSeconds float64 `json:"timeoutSeconds"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fanout-client:", err)
		os.Exit(1)
	}
}

func run() error {
	listeners, err := newListeners()
	if err != nil {
		return err
	}
	go listeners.read()
	lines, answers := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var command Command
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			return fmt.Errorf("command: %w", err)
		}
		answer, err := carryOut(listeners, command)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func carryOut(listeners *Listeners, command Command) (any, error) {
	switch command.Name {
	case "connect":
		return open(listeners, command.Connect)
	case "begin":
		return listeners.begin(), nil
	case "end":
		return listeners.end(Age{command.Epoch, command.Version}, seconds(command.TimeoutSeconds)), nil
	case "cut":
		return listeners.cutAll(), nil
	case "disconnect":
		return listeners.disconnect(), nil
	default:
		return nil, fmt.Errorf("no command is called %q", command.Name)
	}
}
