package main

import (
	"encoding/json"
	"time"
)

// snapshot is what a top tells of itself.
type snapshot struct {
	Epoch       int64     `json:"epoch"`
	Version     int64     `json:"version"`
	LastUpdated time.Time `json:"lastUpdated"`
	// Rankings are not looked into: all connections get the same bytes, and who asked knows what they should be.
	Rankings json.RawMessage `json:"rankings"`
}

// envelope is any message of a server: a snapshot as Podium or a plain server sends it, one in a publication of
// centrifuge, or something else.
type envelope struct {
	Type string `json:"type"`
	snapshot
	Push *struct {
		Publication *struct {
			Data *snapshot `json:"data"`
		} `json:"pub"`
	} `json:"push"`
	Error json.RawMessage `json:"error"`
}

// parsed is what kind of message it is: "snapshot" with its content, "error", "unreadable", or another.
func parsed(message []byte) (string, snapshot) {
	var found envelope
	if json.Unmarshal(message, &found) != nil {
		return "unreadable", snapshot{}
	}
	switch {
	case found.Push != nil && found.Push.Publication != nil && found.Push.Publication.Data != nil:
		return "snapshot", *found.Push.Publication.Data
	case found.Error != nil:
		return "error", snapshot{}
	case found.Version > 0:
		return "snapshot", found.snapshot
	case found.Type == "":
		return "other", snapshot{}
	default:
		return found.Type, snapshot{}
	}
}
