package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// worker keeps the results of one connection, so that nothing is shared while the load runs.
type worker struct {
	connection connection
	results    results
}

// load sends until the time or the number of requests is used up, and waits for the answers to all that was sent.
func load(config Config, requests *requests) (Report, error) {
	runtime.GC()
	workers := make([]*worker, config.Connections)
	begin := time.Now()
	for i := range workers {
		address := config.Addresses[i%len(config.Addresses)]
		workers[i] = &worker{connection: connection{address: address}, results: newResults(begin)}
	}
	cpuBefore := cpuSeconds()
	due := arrivals(config, begin)
	var wait sync.WaitGroup
	for _, each := range workers {
		wait.Go(func() {
			for intended := range due {
				each.send(requests, intended)
			}
			each.connection.close()
		})
	}
	wait.Wait()
	return report(workers, time.Since(begin).Seconds(), cpuSeconds()-cpuBefore), nil
}

func (w *worker) send(requests *requests, intended time.Time) {
	begun := time.Now()
	got, err := w.connection.exchange(requests)
	w.results.add(got, err, intended, begun, time.Now())
	if err != nil {
		time.Sleep(time.Millisecond) // a server that is away must not be hammered
	}
}

// arrivals gives the time at which each request is meant to be sent, to whichever connection is free.
func arrivals(config Config, begin time.Time) func(yield func(time.Time) bool) {
	end := begin.Add(time.Duration(config.Seconds * float64(time.Second)))
	if config.Rate <= 0 {
		var taken atomic.Int64
		return func(yield func(time.Time) bool) {
			for {
				now := time.Now()
				if now.After(end) || config.Requests > 0 && taken.Add(1) > config.Requests {
					return
				}
				if !yield(now) {
					return
				}
			}
		}
	}
	due := make(chan time.Time, 1<<16)
	go func() {
		// Go's timers have the resolution of a millisecond; a thread of its own sleeps to some 60 µs.
		runtime.LockOSThread()
		defer close(due)
		gap := time.Duration(float64(time.Second) / config.Rate)
		for intended := begin; intended.Before(end); intended = intended.Add(gap) {
			if ahead := time.Until(intended); ahead > 0 {
				pause := syscall.NsecToTimespec(ahead.Nanoseconds())
				_ = syscall.Nanosleep(&pause, nil)
			}
			due <- intended
		}
	}()
	return func(yield func(time.Time) bool) {
		for intended := range due {
			if !yield(intended) {
				return
			}
		}
	}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
