package main

import (
	"slices"
	"strconv"
	"time"
)

// results are the outcomes that one connection saw.
type results struct {
	begin      time.Time
	accepted   []time.Duration
	refused    []time.Duration
	late       []time.Duration
	statuses   map[int]int
	errors     map[string]int
	retryAfter int
	seconds    []Second
	shown      map[version]showing
}

// showing is what one connection saw of a version.
type showing struct {
	answers int
	last    time.Time
}

// Second is what happened to the requests answered within one second of the run.
type Second struct {
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
}

// Report is the result of a run. Latencies are milliseconds; "accepted" are answers 200 and 304.
type Report struct {
	Seconds           float64 `json:"seconds"`
	Accepted          int     `json:"accepted"`
	RequestsPerSecond float64 `json:"requestsPerSecond"`
	P50Ms             float64 `json:"p50Ms"`
	P99Ms             float64 `json:"p99Ms"`
	MaxMs             float64 `json:"maxMs"`
	RefusedP99Ms      float64 `json:"refusedP99Ms"`
	// LateP99Ms is how long after its time a request was begun: by the generator's own delays, and for want of a free connection.
	LateP99Ms float64        `json:"lateP99Ms"`
	Statuses  map[string]int `json:"statuses"`
	Errors    map[string]int `json:"errors"`
	// RetryAfter counts the answers that carry Retry-After.
	RetryAfter int      `json:"retryAfter"`
	Timeline   []Second `json:"timeline"`
	// CPUSeconds is the generator's own, to show that it was not the bottleneck.
	CPUSeconds float64 `json:"cpuSeconds"`
	Shown      []Shown `json:"shown"`
}

func newResults(begin time.Time) results {
	return results{begin: begin, statuses: map[int]int{}, errors: map[string]int{}, shown: map[version]showing{}}
}

func (r *results) add(got answer, err error, intended, begun, now time.Time) {
	if err != nil {
		r.errors[err.Error()]++
		return
	}
	r.statuses[got.status]++
	if got.retryAfter {
		r.retryAfter++
	}
	if got.shown != (version{}) {
		r.shown[got.shown] = showing{r.shown[got.shown].answers + 1, now}
	}
	r.late = append(r.late, begun.Sub(intended))
	second := int(now.Sub(r.begin) / time.Second)
	for len(r.seconds) <= second {
		r.seconds = append(r.seconds, Second{})
	}
	if got.status == 200 || got.status == 304 {
		r.seconds[second].Accepted++
		r.accepted = append(r.accepted, now.Sub(intended))
	} else {
		r.seconds[second].Refused++
		r.refused = append(r.refused, now.Sub(intended))
	}
}

func report(workers []*worker, seconds, cpu float64) Report {
	made := Report{Seconds: seconds, CPUSeconds: cpu, Statuses: map[string]int{}, Errors: map[string]int{}}
	var accepted, refused, late []time.Duration
	for _, each := range workers {
		accepted = append(accepted, each.results.accepted...)
		refused = append(refused, each.results.refused...)
		late = append(late, each.results.late...)
		made.RetryAfter += each.results.retryAfter
		for status, count := range each.results.statuses {
			made.Statuses[strconv.Itoa(status)] += count
		}
		for text, count := range each.results.errors {
			made.Errors[text] += count
		}
		for i, second := range each.results.seconds {
			if i == len(made.Timeline) {
				made.Timeline = append(made.Timeline, Second{})
			}
			made.Timeline[i].Accepted += second.Accepted
			made.Timeline[i].Refused += second.Refused
		}
	}
	made.Shown = shownBy(workers)
	slices.Sort(accepted)
	slices.Sort(refused)
	slices.Sort(late)
	made.Accepted = len(accepted)
	made.RequestsPerSecond = float64(len(accepted)) / seconds
	made.P50Ms, made.P99Ms, made.MaxMs = quantile(accepted, 0.5), quantile(accepted, 0.99), quantile(accepted, 1)
	made.RefusedP99Ms, made.LateP99Ms = quantile(refused, 0.99), quantile(late, 0.99)
	return made
}

// quantile of ascending durations, in milliseconds; 0 where there are none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]) / float64(time.Millisecond)
}
