package main

import (
	"bytes"
	"encoding/json"
	"io"
	"time"
	"unicode/utf8"
)

const (
	maxBody     = 16 << 10
	maxActionID = 128
)

// Body is a well-formed body. Metadata is actionMetadata as it was sent, Data its additionalData.
type Body struct {
	ActionID  string
	Type      string
	Timestamp time.Time
	Data      any
	Metadata  json.RawMessage
}

func parseBody(raw []byte) (*Body, *Refusal) {
	if !utf8.Valid(raw) {
		return nil, malformed("the body is not UTF-8")
	}
	if bytes.Contains(raw, []byte(`\u0000`)) {
		return nil, malformed("a string holds the character U+0000")
	}
	var outer struct {
		ActionID string          `json:"actionId"`
		Metadata json.RawMessage `json:"actionMetadata"`
	}
	if err := strictJSON(raw, &outer); err != nil {
		return nil, malformed("the body does not have exactly the expected fields")
	}
	var inner struct {
		Type      *string         `json:"type"`
		Timestamp *time.Time      `json:"timestamp"`
		Data      json.RawMessage `json:"additionalData"`
	}
	if err := strictJSON(outer.Metadata, &inner); err != nil {
		return nil, malformed("actionMetadata does not have exactly the expected fields")
	}
	if length := utf8.RuneCountInString(outer.ActionID); length < 1 || length > maxActionID {
		return nil, malformed("/actionId must have 1 to 128 characters")
	}
	if inner.Type == nil || inner.Timestamp == nil || inner.Data == nil {
		return nil, malformed("actionMetadata lacks a field")
	}
	body := &Body{ActionID: outer.ActionID, Type: *inner.Type, Timestamp: *inner.Timestamp, Metadata: outer.Metadata}
	decoder := json.NewDecoder(bytes.NewReader(inner.Data))
	decoder.UseNumber()
	if err := decoder.Decode(&body.Data); err != nil {
		return nil, malformed("the body is not JSON")
	}
	return body, nil
}

func strictJSON(raw []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return io.ErrUnexpectedEOF
	}
	return nil
}
