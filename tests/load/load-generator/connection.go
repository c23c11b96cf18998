package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"
)

const answerTimeout = 30 * time.Second

// answer is what the load wants to know of a response.
type answer struct {
	status     int
	retryAfter bool
	shown      version
}

// connection is one keep-alive connection. It is made again after a failure or when the server closes it.
type connection struct {
	address string
	socket  net.Conn
	reader  *bufio.Reader
	buffer  []byte
	etag    string
	body    []byte
}

func (c *connection) exchange(requests *requests) (answer, error) {
	if c.socket == nil {
		socket, err := net.DialTimeout("tcp", c.address, answerTimeout)
		if err != nil {
			return answer{}, err
		}
		c.socket, c.reader = socket, bufio.NewReaderSize(socket, 32<<10)
	}
	c.buffer = requests.append(c.buffer[:0], c.etag)
	c.socket.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := c.socket.Write(c.buffer); err != nil {
		c.close()
		return answer{}, err
	}
	got, keep, err := c.read(requests.config.ShowVersions)
	if err != nil || !keep {
		c.close()
	}
	return got, err
}

func (c *connection) close() {
	if c.socket != nil {
		c.socket.Close()
		c.socket = nil
	}
}

// read takes one response off the connection, and looks at its body if asked to; only bodies with a Content-Length are
// understood.
func (c *connection) read(look bool) (answer, bool, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return answer{}, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return answer{}, false, fmt.Errorf("not a status line: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return answer{}, false, err
	}
	got, keep, length := answer{status: status}, true, -1
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return answer{}, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return answer{}, false, err
			}
		case bytes.EqualFold(name, []byte("connection")):
			keep = !bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("retry-after")):
			got.retryAfter = true
		case bytes.EqualFold(name, []byte("etag")):
			if c.etag != string(value) {
				c.etag = string(value)
			}
		}
	}
	if status == 304 || status == 204 {
		length = 0
	}
	if length < 0 {
		return answer{}, false, errors.New("a response without Content-Length")
	}
	if look && status == 200 {
		c.body = slices.Grow(c.body[:0], length)[:length]
		if _, err = io.ReadFull(c.reader, c.body); err == nil {
			got.shown, err = versionOf(c.body)
		}
		return got, keep, err
	}
	_, err = c.reader.Discard(length)
	return got, keep, err
}
