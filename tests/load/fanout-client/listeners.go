package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// connection is an open WebSocket; rest is the begin of a frame whose end has not come.
type connection struct {
	fd       int
	rest     []byte
	age      Age
	messages int
	// returned is set until a connection that came back has its first snapshot.
	returned *past
}

// past is what a connection had before it was lost, when that was, and with whom it comes back.
type past struct {
	age  Age
	lost time.Time
	with *returning
}

// Listeners are all connections. One thread reads; the lock is for commands, and taken once for many reads.
type Listeners struct {
	lock        sync.Mutex
	epoll       int
	connections map[int]*connection // by descriptor
	leaving     bool
	journal     journal
	// before is the newest snapshot that any connection had when the measurement began.
	before     Age
	faults     map[string]int
	heartbeats int
	pings      int
	since      time.Time
	cpuBefore  float64
	returning  *returning // nil: a lost connection is a fault and stays lost
}

func newListeners() (*Listeners, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &Listeners{epoll: epoll, connections: map[int]*connection{}, faults: map[string]int{}}, nil
}

// add takes a connection after its handshake, with the bytes that came behind it; before is nil for a new one.
func (l *Listeners) add(fd int, rest []byte, before *past) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	made := &connection{fd: fd, returned: before}
	if before != nil {
		if before.with.over {
			syscall.Close(fd)
			return nil
		}
		made.age = before.age
		delete(before.with.away, before)
		before.with.opened = append(before.with.opened, time.Now())
	}
	l.connections[fd] = made
	if err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd,
		&syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	l.take(made, rest, time.Now())
	return nil
}

// read serves all connections for ever.
func (l *Listeners) read() {
	runtime.LockOSThread()
	events := make([]syscall.EpollEvent, 256)
	buffer := make([]byte, 256<<10)
	for {
		count, err := syscall.EpollWait(l.epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			panic(os.NewSyscallError("epoll_wait", err))
		}
		l.lock.Lock()
		for _, event := range events[:max(count, 0)] {
			if each := l.connections[int(event.Fd)]; each != nil {
				l.readFrom(each, buffer)
			}
		}
		l.lock.Unlock()
	}
}

func (l *Listeners) readFrom(from *connection, buffer []byte) {
	held := copy(buffer, from.rest)
	count, err := syscall.Read(from.fd, buffer[held:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
	case err != nil:
		l.drop(from, os.NewSyscallError("read", err).Error())
	case count == 0:
		l.drop(from, "the server ended the connection")
	default:
		l.take(from, buffer[:held+count], time.Now())
	}
}

// take looks at all whole frames in data and keeps the rest.
func (l *Listeners) take(from *connection, data []byte, now time.Time) {
	for {
		got, rest, err := cut(data)
		if err == errIncomplete {
			from.rest = append(from.rest[:0], rest...)
			return
		}
		if err != nil {
			l.drop(from, err.Error())
			return
		}
		data = rest
		switch got.opcode {
		case opText:
			// centrifuge puts several messages into one frame where it has fallen behind.
			for message := range bytes.SplitSeq(got.payload, []byte("\n")) {
				l.message(from, message, now)
			}
		case opPing:
			l.pings++
			l.send(from, masked(opPong, got.payload))
		case opPong:
		case opClose:
			l.drop(from, closeText(got.payload))
			return
		default:
			l.fault(fmt.Sprintf("a frame with opcode %d", got.opcode))
		}
	}
}

func (l *Listeners) message(from *connection, message []byte, now time.Time) {
	from.messages++
	if place := l.journal.known(message); place >= 0 {
		l.deliver(from, place, now)
		return
	}
	if string(message) == "{}" { // centrifuge's ping, which wants the same back
		l.pings++
		l.send(from, masked(opText, message))
		return
	}
	switch kind, found := parsed(message); kind {
	case "snapshot":
		age := Age{found.Epoch, found.Version}
		place, known := l.journal.place(age)
		if !known && !age.newerThan(l.before) {
			l.old(from, age, now)
			return
		}
		if !known {
			l.journal.add(place, age, message, found.LastUpdated, now, l.ahead(age))
		} else if !bytes.Equal(l.journal.broadcasts[place].message, message) {
			l.fault("two snapshots of one version differ")
		}
		l.deliver(from, place, now)
	case "heartbeat":
		l.heartbeats++
	case "error", "unreadable":
		l.fault(kind + ": " + string(message))
	}
}

// old takes a snapshot from before the measurement: a connection that is new, that came back, or that was behind gets it.
func (l *Listeners) old(from *connection, age Age, now time.Time) {
	back := from.returned
	if from.age.newerThan(age) || back == nil && from.age == age {
		l.fault("a snapshot that is not newer than the one before")
		return
	}
	from.age = age
	if back != nil {
		from.returned = nil
		back.with.gaps = append(back.with.gaps, now.Sub(back.lost))
	}
}

func (l *Listeners) deliver(to *connection, place int, now time.Time) {
	age := l.journal.broadcasts[place].age
	if back := to.returned; back != nil {
		to.returned = nil
		back.with.gaps = append(back.with.gaps, now.Sub(back.lost))
		if age == to.age { // nothing has changed meanwhile
			return
		}
	}
	if !age.newerThan(to.age) {
		l.fault("a snapshot that is not newer than the one before")
		return
	}
	l.journal.deliver(place, to.age, now)
	to.age = age
}

// ahead counts the connections that have a newer snapshot, or had one when they were lost.
func (l *Listeners) ahead(age Age) int {
	count := 0
	if l.returning != nil {
		for each := range l.returning.away {
			if each.age.newerThan(age) {
				count++
			}
		}
	}
	for _, each := range l.connections {
		if each.age.newerThan(age) {
			count++
		}
	}
	return count
}

func (l *Listeners) send(to *connection, data []byte) {
	if _, err := syscall.Write(to.fd, data); err != nil {
		l.fault(os.NewSyscallError("write", err).Error())
	}
}

// drop forgets a connection; unless all are being closed that is a fault.
func (l *Listeners) drop(which *connection, why string) {
	delete(l.connections, which.fd)
	syscall.Close(which.fd)
	switch {
	case l.leaving:
	case l.returning != nil:
		l.comeBack(which.age, why, pauseAfter(why))
	default:
		l.fault(why)
	}
}

func (l *Listeners) fault(text string) {
	l.faults[text]++
}

func closeText(payload []byte) string {
	if len(payload) < 2 {
		return "closed by the server"
	}
	return fmt.Sprintf("closed by the server: %d %s", binary.BigEndian.Uint16(payload), payload[2:])
}
