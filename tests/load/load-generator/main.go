// The load generator of `make bench`: signed score updates, or reads, over HTTP/1.1 keep-alive connections.
//
// It reads one JSON object (Config) from standard input and prints one (Report) on standard output. In closed loop each
// connection sends its next request when it has the answer; in open loop requests have a fixed rate and latency counts
// from the time a request was meant to be sent, so a server that stalls cannot hide it (no coordinated omission).
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// Config says what to send where.
type Config struct {
	// Addresses are host:port of the processes under load; connections are spread over them evenly.
	Addresses   []string `json:"addresses"`
	Connections int      `json:"connections"`
	// Seconds is how long requests are begun; with Requests above 0 the load ends after so many, if earlier.
	Seconds  float64 `json:"seconds"`
	Requests int64   `json:"requests"`
	// Rate is the arrival rate in requests per second of the open loop; 0 means closed loop.
	Rate float64 `json:"rate"`

	// ReadPath makes it a load of GETs of this path; with Conditional each carries the last ETag in If-None-Match.
	ReadPath    string `json:"readPath"`
	Conditional bool   `json:"conditional"`
	// ShowVersions reports which versions of a board the answers showed, and until when.
	ShowVersions bool `json:"showVersions"`

	// Users send in turn, in a shuffled order: user i has the number FirstUser + i*Stride.
	Users     int    `json:"users"`
	FirstUser int    `json:"firstUser"`
	Stride    int    `json:"stride"`
	Action    string `json:"action"`
	Session   Issuer `json:"session"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generator:", err)
		os.Exit(1)
	}
}

func run() error {
	var config Config
	if err := json.NewDecoder(os.Stdin).Decode(&config); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	requests, err := makeRequests(config)
	if err != nil {
		return err
	}
	report, err := load(config, requests)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}
