package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	mathrand "math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	updatePath = "/api/v1/scores/update"
	components = `("@method" "@path" "content-digest" "authorization")`
)

// requests makes the bytes of one request after the other; it is shared by all connections.
type requests struct {
	config   Config
	sessions []session
	order    []int
	run      string
	next     atomic.Int64
}

func makeRequests(config Config) (*requests, error) {
	made := &requests{config: config}
	if config.ReadPath != "" {
		return made, nil
	}
	random := make([]byte, 6)
	rand.Read(random)
	made.run = hex.EncodeToString(random)
	made.sessions = make([]session, config.Users)
	for i := range made.sessions {
		opened, err := config.Session.open(config.FirstUser + i*config.Stride)
		if err != nil {
			return nil, err
		}
		made.sessions[i] = opened
	}
	made.order = mathrand.New(mathrand.NewPCG(1, 2)).Perm(config.Users)
	return made, nil
}

// append adds the next request to buffer. The actionId and the nonce are new, the signature is made now (RFC 9421).
func (r *requests) append(buffer []byte, etag string) []byte {
	if r.config.ReadPath != "" {
		return r.appendRead(buffer, etag)
	}
	number := r.next.Add(1) - 1
	user := &r.sessions[r.order[number%int64(len(r.order))]]
	id := r.run + "-" + strconv.FormatInt(number, 10)
	now := time.Now().UTC()

	body := make([]byte, 0, 256)
	body = append(body, `{"actionId":"`...)
	body = append(body, id...)
	body = append(body, `","actionMetadata":{"type":"`...)
	body = append(body, r.config.Action...)
	body = append(body, `","timestamp":"`...)
	body = now.AppendFormat(body, time.RFC3339Nano)
	body = append(body, `","additionalData":{"level":3,"mode":"arcade"}}}`...)

	sum := sha256.Sum256(body)
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	parameters := components + ";created=" + strconv.FormatInt(now.Unix(), 10) +
		`;nonce="n-` + id + `";keyid="` + user.keyID + `";alg="hmac-sha256"`
	mac := hmac.New(sha256.New, user.key)
	base := make([]byte, 0, 1536)
	base = append(base, "\"@method\": POST\n\"@path\": "+updatePath+"\n\"content-digest\": "...)
	base = append(base, digest...)
	base = append(base, "\n\"authorization\": "...)
	base = append(base, user.authorization...)
	base = append(base, "\n\"@signature-params\": "...)
	base = append(base, parameters...)
	mac.Write(base)

	buffer = append(buffer, "POST "+updatePath+" HTTP/1.1\r\nHost: podium.bench\r\nUser-Agent: podium-bench\r\n"...)
	buffer = append(buffer, "Content-Type: application/json\r\nAuthorization: "...)
	buffer = append(buffer, user.authorization...)
	buffer = append(buffer, "\r\nContent-Digest: "...)
	buffer = append(buffer, digest...)
	buffer = append(buffer, "\r\nSignature-Input: sig1="...)
	buffer = append(buffer, parameters...)
	buffer = append(buffer, "\r\nSignature: sig1=:"...)
	buffer = base64.StdEncoding.AppendEncode(buffer, mac.Sum(nil))
	buffer = append(buffer, ":\r\nContent-Length: "...)
	buffer = strconv.AppendInt(buffer, int64(len(body)), 10)
	buffer = append(buffer, "\r\n\r\n"...)
	return append(buffer, body...)
}

func (r *requests) appendRead(buffer []byte, etag string) []byte {
	buffer = append(buffer, "GET "...)
	buffer = append(buffer, r.config.ReadPath...)
	buffer = append(buffer, " HTTP/1.1\r\nHost: podium.bench\r\nUser-Agent: podium-bench\r\nAccept: application/json\r\n"...)
	if r.config.Conditional && etag != "" {
		buffer = append(buffer, "If-None-Match: "...)
		buffer = append(buffer, etag...)
		buffer = append(buffer, "\r\n"...)
	}
	return append(buffer, "\r\n"...)
}
