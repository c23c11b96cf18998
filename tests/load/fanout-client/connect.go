package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Connect says what to open where.
type Connect struct {
	// Addresses are ip:port of the processes; connections are spread over them evenly.
	Addresses []string `json:"addresses"`
	Path      string   `json:"path"`
	// Subprotocol is offered; a server may take it, but no other.
	Subprotocol string `json:"subprotocol"`
	// Sources are local addresses to connect from, in turn, where one has too few ports; none lets the system choose.
	Sources     []string `json:"sources"`
	Connections int      `json:"connections"`
	// PerSecond is how many are begun in a second, AtOnce how many handshakes are under way.
	PerSecond float64 `json:"perSecond"`
	AtOnce    int     `json:"atOnce"`
	// Greeting is a message that is sent first, none where empty.
	Greeting string `json:"greeting"`
	// AwaitMessage: a connection counts as open once a message has come.
	AwaitMessage bool `json:"awaitMessage"`
	// Return: a connection that is lost comes back, and that it was lost is no fault.
	Return bool `json:"return"`
}

// Connected is the answer to `connect`.
type Connected struct {
	Seconds     float64        `json:"seconds"`
	Connections int            `json:"connections"`
	Errors      map[string]int `json:"errors"`
}

const (
	handshakeTimeout = 30 * time.Second
	// bindWithoutPort (IP_BIND_ADDRESS_NO_PORT, ip(7)): the port is chosen when the destination is known.
	bindWithoutPort = 24
	acceptSuffix    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	maxHead         = 16 << 10
)

// open makes connections at the given rate, with blocking calls in a few goroutines.
func open(listeners *Listeners, plan Connect) (Connected, error) {
	addresses, err := endpoints(plan.Addresses, netip.ParseAddrPort)
	if err != nil {
		return Connected{}, err
	}
	sources, err := endpoints(plan.Sources, func(text string) (netip.AddrPort, error) {
		address, err := netip.ParseAddr(text)
		return netip.AddrPortFrom(address, 0), err
	})
	if err != nil {
		return Connected{}, err
	}
	if len(addresses) == 0 || plan.PerSecond <= 0 {
		return Connected{}, errors.New("connect: addresses or perSecond is missing")
	}
	if plan.Return {
		listeners.returning = &returning{
			plan: plan, sources: sources, targets: addresses, slots: make(chan struct{}, max(plan.AtOnce, 1)),
			failures: map[string]int{}, lost: map[string]int{}, away: map[*past]bool{},
		}
	}
	begin := time.Now()
	numbers := make(chan int)
	go func() {
		defer close(numbers)
		for number := range plan.Connections {
			time.Sleep(time.Until(begin.Add(seconds(float64(number) / plan.PerSecond))))
			numbers <- number
		}
	}()
	var lock sync.Mutex
	failed := map[string]int{}
	var wait sync.WaitGroup
	for range max(plan.AtOnce, 1) {
		wait.Go(func() {
			for number := range numbers {
				var source netip.AddrPort
				if len(sources) > 0 {
					source = sources[number%len(sources)]
				}
				if err := openOne(listeners, plan, source, addresses[number%len(addresses)]); err != nil {
					lock.Lock()
					failed[err.Error()]++
					lock.Unlock()
				}
			}
		})
	}
	wait.Wait()
	for plan.AwaitMessage && listeners.haveFirst() < listeners.count() {
		if time.Since(begin) > handshakeTimeout+seconds(float64(plan.Connections)/plan.PerSecond) {
			failed["no message came"] = listeners.count() - listeners.haveFirst()
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return Connected{time.Since(begin).Seconds(), listeners.count(), failed}, nil
}

func endpoints(texts []string, parse func(string) (netip.AddrPort, error)) ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	for _, text := range texts {
		one, err := parse(text)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

func openOne(listeners *Listeners, plan Connect, source, address netip.AddrPort) error {
	fd, rest, err := dial(plan, source, address)
	if err != nil {
		return err
	}
	return listeners.add(fd, rest, nil)
}

// dial makes a connection and its handshake; it returns what came behind the server's answer.
func dial(plan Connect, source, address netip.AddrPort) (int, []byte, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, os.NewSyscallError("socket", err)
	}
	rest, err := shake(fd, plan, source, address)
	if err == nil {
		err = os.NewSyscallError("setnonblock", syscall.SetNonblock(fd, true))
	}
	if err != nil {
		syscall.Close(fd)
		return 0, nil, err
	}
	return fd, rest, nil
}

// shake connects and makes the handshake; it returns what came behind the server's answer.
func shake(fd int, plan Connect, source, address netip.AddrPort) ([]byte, error) {
	if source.IsValid() {
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindWithoutPort, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
		if err := syscall.Bind(fd, socketAddress(source)); err != nil {
			return nil, os.NewSyscallError("bind", err)
		}
	}
	timeout := syscall.NsecToTimeval(handshakeTimeout.Nanoseconds())
	for _, option := range []int{syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO} {
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &timeout); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := connect(fd, socketAddress(address)); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	key := base64.StdEncoding.EncodeToString(nonce)
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", plan.Path, address, key)
	if plan.Subprotocol != "" {
		request += "Sec-WebSocket-Protocol: " + plan.Subprotocol + "\r\n"
	}
	if _, err := syscall.Write(fd, []byte(request+"\r\n")); err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	rest, err := readAnswer(fd, key, plan.Subprotocol)
	if err != nil {
		return nil, err
	}
	if plan.Greeting != "" {
		if _, err := syscall.Write(fd, masked(opText, []byte(plan.Greeting))); err != nil {
			return nil, os.NewSyscallError("write", err)
		}
	}
	return rest, nil
}

// readAnswer checks the server's side of the handshake (RFC 6455, section 4.1).
func readAnswer(fd int, key, subprotocol string) ([]byte, error) {
	data, buffer := []byte(nil), make([]byte, 4<<10)
	for {
		count, err := syscall.Read(fd, buffer)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("read", err)
		}
		if count == 0 {
			return nil, errors.New("the server ended the connection during the handshake")
		}
		data = append(data, buffer[:count]...)
		head, rest, whole := bytes.Cut(data, []byte("\r\n\r\n"))
		if whole {
			return rest, checkAnswer(head, key, subprotocol)
		}
		if len(data) > maxHead {
			return nil, errors.New("the answer to the handshake does not end")
		}
	}
}

func checkAnswer(head []byte, key, subprotocol string) error {
	lines := bytes.Split(head, []byte("\r\n"))
	if !bytes.HasPrefix(lines[0], []byte("HTTP/1.1 101")) {
		return fmt.Errorf("not upgraded: %s", lines[0])
	}
	sum := sha1.Sum([]byte(key + acceptSuffix))
	wanted, accepted := base64.StdEncoding.EncodeToString(sum[:]), ""
	for _, line := range lines[1:] {
		name, value, _ := bytes.Cut(line, []byte(":"))
		text := string(bytes.TrimSpace(value))
		switch string(bytes.ToLower(name)) {
		case "sec-websocket-accept":
			accepted = text
		case "sec-websocket-protocol":
			if text != subprotocol {
				return fmt.Errorf("the subprotocol %q was not offered", text)
			}
		case "sec-websocket-extensions":
			return fmt.Errorf("the extension %q was not offered", text)
		}
	}
	if accepted != wanted {
		return errors.New("Sec-WebSocket-Accept is wrong")
	}
	return nil
}

// connect goes on where a signal came between: the kernel goes on, too, and says so when it is asked again.
func connect(fd int, address syscall.Sockaddr) error {
	err := syscall.Connect(fd, address)
	for err == syscall.EINTR || err == syscall.EALREADY {
		err = syscall.Connect(fd, address)
	}
	if err == syscall.EISCONN {
		return nil
	}
	return err
}

func socketAddress(address netip.AddrPort) syscall.Sockaddr {
	return &syscall.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
}
