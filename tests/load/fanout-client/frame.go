package main

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa
)

// frame is one frame of a server; payload lies in the buffer that was read.
type frame struct {
	opcode  byte
	payload []byte
}

var (
	errIncomplete = errors.New("there is more to come")
	errMasked     = errors.New("a server's frame is masked")
	errFlags      = errors.New("a frame has flags that were not negotiated, or is a fragment")
	errSize       = errors.New("a frame is larger than any snapshot")
)

const maxPayload = 1 << 20

// cut takes the first frame off data. errIncomplete leaves it as it is; any other error ends the connection.
func cut(data []byte) (frame, []byte, error) {
	if len(data) < 2 {
		return frame{}, data, errIncomplete
	}
	if data[0]&0xf0 != 0x80 {
		return frame{}, data, errFlags
	}
	if data[1]&0x80 != 0 {
		return frame{}, data, errMasked
	}
	head, size := 2, uint64(data[1])
	switch size {
	case 126:
		head = 4
		if len(data) < head {
			return frame{}, data, errIncomplete
		}
		size = uint64(binary.BigEndian.Uint16(data[2:]))
	case 127:
		head = 10
		if len(data) < head {
			return frame{}, data, errIncomplete
		}
		size = binary.BigEndian.Uint64(data[2:])
	}
	if size > maxPayload {
		return frame{}, data, errSize
	}
	end := head + int(size)
	if len(data) < end {
		return frame{}, data, errIncomplete
	}
	return frame{data[0] & 0x0f, data[head:end]}, data[end:], nil
}

// masked is a final frame of a client with a payload below 126 bytes.
func masked(opcode byte, payload []byte) []byte {
	key := binary.BigEndian.AppendUint32(nil, rand.Uint32())
	made := append([]byte{0x80 | opcode, 0x80 | byte(len(payload))}, key...)
	for i, each := range payload {
		made = append(made, each^key[i%4])
	}
	return made
}
