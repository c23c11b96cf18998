package main

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Refusal is a problem document (RFC 9457) to be; Limit and RetryAfter are set for rate-limited only.
type Refusal struct {
	Slug       string
	Status     int
	Detail     string
	Limit      *Limit
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return r.Slug + ": " + r.Detail }

func unauthorized(slug, detail string) *Refusal {
	return &Refusal{Slug: slug, Status: 401, Detail: detail}
}

func malformed(detail string) *Refusal {
	return &Refusal{Slug: "malformed-request", Status: 400, Detail: detail}
}

var errUnavailable = &Refusal{Slug: "database-unavailable", Status: 503, Detail: "the database is away"}
var errOverloaded = &Refusal{Slug: "dependency-unavailable", Status: 503, Detail: "too many updates are waiting"}

func (r *Refusal) write(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	switch r.Status {
	case 401:
		header.Set("WWW-Authenticate", `Bearer realm="podium"`)
	case 503:
		header.Set("Retry-After", "1")
	case 429:
		header.Set("Retry-After", ceilSeconds(r.RetryAfter))
		rateLimitHeaders(header, *r.Limit, 0, r.RetryAfter)
	}
	body, _ := json.Marshal(map[string]any{
		"type": "https://podium.dev/problems/" + r.Slug, "title": http.StatusText(r.Status), "status": r.Status,
		"detail": r.Detail, "traceId": "00000000000000000000000000000000",
	})
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(r.Status)
	_, _ = w.Write(body)
}

// rateLimitHeaders of draft-ietf-httpapi-ratelimit-headers.
func rateLimitHeaders(header http.Header, limit Limit, remaining int, reset time.Duration) {
	policy := `"` + limit.Policy + `"`
	header.Set("RateLimit-Policy", policy+";q="+strconv.Itoa(limit.Count)+";w="+ceilSeconds(limit.Window))
	header.Set("RateLimit", policy+";r="+strconv.Itoa(remaining)+";t="+ceilSeconds(reset))
}

func ceilSeconds(duration time.Duration) string {
	return strconv.Itoa(int(math.Ceil(duration.Seconds())))
}
