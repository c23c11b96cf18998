package main

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// returning brings connections back that were lost, as a good client does: after the time that the server's close names,
// at once after a cut, and then with exponential backoff and full jitter.
type returning struct {
	plan    Connect
	sources []netip.AddrPort
	targets []netip.AddrPort
	// slots bounds the handshakes under way.
	slots chan struct{}
	// lostAt and opened are the times of all losses and returns, gaps how long each connection was without a snapshot.
	lostAt   []time.Time
	opened   []time.Time
	gaps     []time.Duration
	failures map[string]int
	// lost counts connections by the reason for which they ended.
	lost map[string]int
	// over: nobody comes back any more.
	over bool
	// away are the connections that are not back yet, awayMost the most there were at a time.
	away     map[*past]bool
	awayMost int
}

// Returns tells of connections that were lost and came back since `begin`.
type Returns struct {
	Count    int            `json:"count"`
	Away     int            `json:"away"`
	AwayMost int            `json:"awayMost"`
	Lost     map[string]int `json:"lost"`
	Failures map[string]int `json:"failures"`
	// MostInASecond is the largest number that came back within one second.
	MostInASecond int `json:"mostInASecond"`
	// Seconds lie between the first return and the last; Gap is how long a connection had none.
	Seconds float64   `json:"seconds"`
	Gap     Quantiles `json:"gap"`
	// Timeline has, for each second since `begin`, how many were lost and how many came back.
	Timeline [][2]int `json:"timeline"`
}

const (
	firstPause   = 250 * time.Millisecond
	longestPause = 5 * time.Second
)

func (r *returning) reset() {
	r.lostAt = r.lostAt[:0]
	r.opened, r.gaps, r.awayMost = r.opened[:0], r.gaps[:0], len(r.away)
	r.failures, r.lost = map[string]int{}, map[string]int{}
}

func (r *returning) report(since time.Time) Returns {
	made := Returns{
		Count: len(r.opened), Away: len(r.away), AwayMost: r.awayMost, Lost: r.lost, Failures: r.failures, Gap: quantiles(r.gaps),
	}
	begin := 0
	for end, each := range r.opened {
		for each.Sub(r.opened[begin]) > time.Second {
			begin++
		}
		made.MostInASecond = max(made.MostInASecond, end-begin+1)
	}
	if made.Count > 0 {
		made.Seconds = r.opened[made.Count-1].Sub(r.opened[0]).Seconds()
	}
	made.Timeline = make([][2]int, int(time.Since(since).Seconds())+1)
	for which, moments := range [][]time.Time{r.lostAt, r.opened} {
		for _, moment := range moments {
			made.Timeline[int(moment.Sub(since).Seconds())][which]++
		}
	}
	return made
}

// comeBack opens a connection again that had a snapshot of an age; l.lock is held.
func (l *Listeners) comeBack(age Age, why string, pause time.Duration) {
	r := l.returning
	kind, _, _ := strings.Cut(why, " {")
	r.lost[kind]++
	r.lostAt = append(r.lostAt, time.Now())
	before := &past{age, time.Now(), r}
	r.away[before] = true
	r.awayMost = max(r.awayMost, len(r.away))
	go func() {
		longest := firstPause
		for {
			time.Sleep(pause)
			r.slots <- struct{}{}
			err := l.openAgain(r, before)
			<-r.slots
			if err == nil {
				return
			}
			l.lock.Lock()
			r.failures[err.Error()]++
			over := r.over
			l.lock.Unlock()
			if over {
				return
			}
			pause, longest = time.Duration(rand.Int64N(int64(longest))), min(2*longest, longestPause)
		}
	}()
}

func (l *Listeners) openAgain(r *returning, before *past) error {
	number := rand.IntN(len(r.targets))
	var source netip.AddrPort
	if len(r.sources) > 0 {
		source = r.sources[rand.IntN(len(r.sources))]
	}
	fd, rest, err := dial(r.plan, source, r.targets[number])
	if err != nil {
		return err
	}
	return l.add(fd, rest, before)
}

// cutAll ends all connections as a broken network does, without a word; each comes back as soon as it may.
func (l *Listeners) cutAll() Closed {
	l.lock.Lock()
	defer l.lock.Unlock()
	count := len(l.connections)
	for fd, each := range l.connections {
		delete(l.connections, fd)
		// A reset instead of an orderly end.
		_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		syscall.Close(fd)
		l.comeBack(each.age, "cut by the client", 0)
	}
	return Closed{Cut: count}
}

// pauseAfter is how long a client waits that was dropped for a reason: what the server's close says, or nothing.
func pauseAfter(why string) time.Duration {
	_, reason, found := strings.Cut(why, "closed by the server: 1001 ")
	var told struct {
		RetryAfterMs int64 `json:"retryAfterMs"`
	}
	if found && json.Unmarshal([]byte(reason), &told) == nil {
		return time.Duration(told.RetryAfterMs) * time.Millisecond
	}
	return time.Duration(rand.Int64N(int64(firstPause)))
}
