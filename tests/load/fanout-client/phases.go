package main

import (
	"encoding/json"
	"os"
	"syscall"
	"time"
)

// Report is the answer to `end`: what happened since `begin`.
type Report struct {
	Seconds     float64 `json:"seconds"`
	Connections int     `json:"connections"`
	// Broadcasts are different snapshots, Deliveries those times the connections that got them.
	Broadcasts int `json:"broadcasts"`
	Deliveries int `json:"deliveries"`
	// Skipped counts, for each connection, the snapshots that others got and it did not.
	Skipped    int            `json:"skipped"`
	Heartbeats int            `json:"heartbeats"`
	Pings      int            `json:"pings"`
	Faults     map[string]int `json:"faults"`
	// Complete: every connection has the last snapshot and had all others, or newer ones; no fault.
	Complete bool `json:"complete"`
	// Delivery is the latency of all deliveries, UntilLast that of the last connection for each broadcast; both from the
	// snapshot's lastUpdated.
	Delivery  Quantiles `json:"delivery"`
	UntilLast Quantiles `json:"untilLast"`
	// CPUSeconds is the client's own.
	CPUSeconds float64 `json:"cpuSeconds"`
	// Returns is null where lost connections do not come back.
	Returns *Returns `json:"returns"`
	// Rankings are those of the newest snapshot.
	Rankings json.RawMessage `json:"rankings"`
}

// Begun is the answer to `begin`.
type Begun struct {
	Connections int `json:"connections"`
}

// Closed is the answer to `disconnect`: how many ended in order, and how many had to be cut off.
type Closed struct {
	Ended int `json:"ended"`
	Cut   int `json:"cut"`
}

const closeTimeout = 5 * time.Second

// begin forgets what was measured; connections and the snapshots they have stay.
func (l *Listeners) begin() Begun {
	l.lock.Lock()
	defer l.lock.Unlock()
	// The space of the last measurement is used again, so that none grows while the next one runs.
	l.journal = journal{latencies: l.journal.latencies[:0]}
	for _, each := range l.connections {
		if each.age.newerThan(l.before) {
			l.before = each.age
		}
	}
	l.faults, l.heartbeats, l.pings = map[string]int{}, 0, 0
	l.since, l.cpuBefore = time.Now(), cpuSeconds()
	if l.returning != nil {
		l.returning.reset()
	}
	return Begun{len(l.connections)}
}

// end waits until every connection has a snapshot that is not older than age, and reports.
func (l *Listeners) end(age Age, timeout time.Duration) Report {
	for deadline := time.Now().Add(timeout); !l.haveAll(age) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	j := &l.journal
	last := j.untilLast(len(l.connections))
	complete := len(last) == len(j.broadcasts) && len(l.faults) == 0 && len(l.connections) > 0
	for _, each := range l.connections {
		complete = complete && !age.newerThan(each.age)
	}
	var returns *Returns
	if l.returning != nil {
		told := l.returning.report(l.since)
		returns, complete = &told, complete && told.Away == 0
	}
	var rankings json.RawMessage
	if len(j.broadcasts) > 0 {
		_, newest := parsed(j.broadcasts[len(j.broadcasts)-1].message)
		rankings = newest.Rankings
	}
	return Report{
		Returns: returns, Rankings: rankings,
		Seconds: time.Since(l.since).Seconds(), Connections: len(l.connections),
		Broadcasts: len(j.broadcasts), Deliveries: j.deliveries, Skipped: j.skipped,
		Heartbeats: l.heartbeats, Pings: l.pings, Faults: l.faults, Complete: complete,
		CPUSeconds: cpuSeconds() - l.cpuBefore, Delivery: quantiles(j.latencies), UntilLast: quantiles(last),
	}
}

func (l *Listeners) haveAll(age Age) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.returning != nil && len(l.returning.away) > 0 {
		return false
	}
	for _, each := range l.connections {
		if age.newerThan(each.age) || each.returned != nil {
			return false
		}
	}
	return true
}

// haveFirst counts the connections to which any message has come.
func (l *Listeners) haveFirst() int {
	l.lock.Lock()
	defer l.lock.Unlock()
	count := 0
	for _, each := range l.connections {
		if each.messages > 0 {
			count++
		}
	}
	return count
}

// disconnect closes all connections in order, and cuts off those whose server does not answer.
func (l *Listeners) disconnect() Closed {
	l.lock.Lock()
	l.leaving = true
	if l.returning != nil {
		l.returning.over, l.returning = true, nil
	}
	count := len(l.connections)
	goodbye := masked(opClose, []byte{0x03, 0xe8}) // 1000
	for fd := range l.connections {
		_, _ = syscall.Write(fd, goodbye)
		_ = syscall.Shutdown(fd, syscall.SHUT_WR)
	}
	l.lock.Unlock()
	for deadline := time.Now().Add(closeTimeout); l.count() > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	left := len(l.connections)
	for _, each := range l.connections {
		l.drop(each, "")
	}
	l.leaving = false
	return Closed{count - left, left}
}

func (l *Listeners) count() int {
	l.lock.Lock()
	defer l.lock.Unlock()
	return len(l.connections)
}

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(os.NewSyscallError("getrusage", err))
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
