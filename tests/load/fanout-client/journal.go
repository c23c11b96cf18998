package main

import (
	"bytes"
	"slices"
	"time"
)

// Age says which of two snapshots is newer: the larger epoch, within one the larger version.
type Age struct {
	Epoch   int64
	Version int64
}

func (a Age) newerThan(other Age) bool {
	return a.Epoch > other.Epoch || a.Epoch == other.Epoch && a.Version > other.Version
}

// broadcast is one snapshot and how far it has come.
type broadcast struct {
	age       Age
	message   []byte
	published time.Time
	// count is how many connections have it or a newer one, last when the last of them got that.
	count int
	last  time.Time
}

// journal keeps the snapshots of a measurement, oldest first, and all latencies.
type journal struct {
	broadcasts []*broadcast
	latencies  []time.Duration
	deliveries int
	skipped    int
}

// recent is how far back a message is looked for without parsing it.
const recent = 8

// known is the place of a message that came before, on whichever connection; -1 for a new one.
func (j *journal) known(message []byte) int {
	for place := len(j.broadcasts) - 1; place >= max(0, len(j.broadcasts)-recent); place-- {
		if bytes.Equal(j.broadcasts[place].message, message) {
			return place
		}
	}
	return -1
}

// place finds where a snapshot of this age is, or would be.
func (j *journal) place(age Age) (int, bool) {
	return slices.BinarySearchFunc(j.broadcasts, age, func(one *broadcast, age Age) int {
		switch {
		case one.age == age:
			return 0
		case one.age.newerThan(age):
			return 1
		default:
			return -1
		}
	})
}

// add takes a snapshot that was not seen before; ahead connections already have a newer one and skipped it.
func (j *journal) add(place int, age Age, message []byte, published, now time.Time, ahead int) {
	made := &broadcast{age, bytes.Clone(message), published, ahead, now}
	j.broadcasts = slices.Insert(j.broadcasts, place, made)
	j.skipped += ahead
}

// deliver notes that a connection, whose snapshot was of age had, got the one at a place. What lies between is skipped.
func (j *journal) deliver(place int, had Age, now time.Time) {
	j.broadcasts[place].arrived(now)
	j.deliveries++
	j.latencies = append(j.latencies, now.Sub(j.broadcasts[place].published))
	for place--; place >= 0 && j.broadcasts[place].age.newerThan(had); place-- {
		j.broadcasts[place].arrived(now)
		j.skipped++
	}
}

func (b *broadcast) arrived(now time.Time) {
	b.count++
	if now.After(b.last) {
		b.last = now
	}
}

// untilLast is, for each snapshot that all connections have or have skipped, the time until the last of them had it.
func (j *journal) untilLast(connections int) []time.Duration {
	var found []time.Duration
	for _, each := range j.broadcasts {
		if each.count >= connections {
			found = append(found, each.last.Sub(each.published))
		}
	}
	return found
}

// Quantiles are milliseconds.
type Quantiles struct {
	P50Ms float64 `json:"p50Ms"`
	P99Ms float64 `json:"p99Ms"`
	MaxMs float64 `json:"maxMs"`
}

func quantiles(durations []time.Duration) Quantiles {
	slices.Sort(durations)
	return Quantiles{quantile(durations, 0.5), quantile(durations, 0.99), quantile(durations, 1)}
}

// quantile of ascending durations, in milliseconds; 0 where there are none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]) / float64(time.Millisecond)
}
