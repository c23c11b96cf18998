package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	components   = `("@method" "@path" "content-digest" "authorization")`
	maxClockSkew = 300 * time.Second
	maxNonce     = 128
)

// verifySignature checks the profile of RFC 9421 that docs/api.md describes, and gives the nonce.
func verifySignature(r *http.Request, session *Session, now time.Time) (string, *Refusal) {
	input, signature := r.Header.Get("Signature-Input"), r.Header.Get("Signature")
	if input == "" || signature == "" {
		return "", unauthorized("signature-missing", "the request needs the headers Signature-Input and Signature")
	}
	invalid := func(detail string) (string, *Refusal) { return "", unauthorized("signature-invalid", detail) }
	if len(r.Header["Signature-Input"]) > 1 || len(r.Header["Signature"]) > 1 {
		return invalid("a signature header was sent more than once")
	}
	raw, found := strings.CutPrefix(strings.TrimSpace(input), "sig1=")
	if !found || !strings.HasPrefix(raw, components) {
		return invalid("Signature-Input must begin with sig1=" + components)
	}
	created, nonce, keyID, ok := signatureParameters(raw[len(components):])
	if !ok {
		return invalid("Signature-Input is malformed after its components")
	}
	encoded, found := strings.CutPrefix(strings.TrimSpace(signature), "sig1=:")
	encoded, closed := strings.CutSuffix(encoded, ":")
	given, err := base64.StdEncoding.DecodeString(encoded)
	if !found || !closed || err != nil {
		return invalid("Signature must be sig1=:<base64>:")
	}
	digest := r.Header.Get("Content-Digest")
	if digest == "" {
		return invalid("the covered component content-digest is missing")
	}
	if now.Sub(time.Unix(created, 0)).Abs() > maxClockSkew {
		return invalid("created is more than 300 s off the server's clock")
	}
	if keyID != session.SigningKeyID {
		return invalid("keyid is not the signing key of this token's session")
	}
	base := make([]byte, 0, 1536)
	base = append(base, `"@method": `...)
	base = append(base, r.Method...)
	base = append(base, "\n\"@path\": "...)
	base = append(base, r.URL.EscapedPath()...)
	base = append(base, "\n\"content-digest\": "...)
	base = append(base, digest...)
	base = append(base, "\n\"authorization\": "...)
	base = append(base, r.Header.Get("Authorization")...)
	base = append(base, "\n\"@signature-params\": "...)
	base = append(base, raw...)
	mac := hmac.New(sha256.New, session.SigningKey)
	mac.Write(base)
	if !hmac.Equal(mac.Sum(nil), given) {
		return invalid("the signature does not match")
	}
	return nonce, nil
}

// signatureParameters reads ;created=…;nonce="…";keyid="…";alg="hmac-sha256", each once, in any order.
func signatureParameters(text string) (created int64, nonce, keyID string, ok bool) {
	seen := 0
	for text != "" {
		name, rest, found := strings.Cut(strings.TrimPrefix(text, ";"), "=")
		if !found || text[0] != ';' {
			return 0, "", "", false
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			var closed bool
			if value, rest, closed = quotedString(rest[1:]); !closed {
				return 0, "", "", false
			}
		} else if end := strings.IndexByte(rest, ';'); end >= 0 {
			value, rest = rest[:end], rest[end:]
		} else {
			value, rest = rest, ""
		}
		switch name {
		case "created":
			parsed, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return 0, "", "", false
			}
			created, seen = parsed, seen+1
		case "nonce":
			nonce, seen = value, seen+10
		case "keyid":
			keyID, seen = value, seen+100
		case "alg":
			if value != "hmac-sha256" {
				return 0, "", "", false
			}
			seen += 1000
		default:
			return 0, "", "", false
		}
		text = rest
	}
	return created, nonce, keyID, seen == 1111 && len(nonce) >= 1 && len(nonce) <= maxNonce
}

// quotedString reads the rest of a structured string (RFC 8941, 3.3.3).
func quotedString(text string) (value, rest string, closed bool) {
	if end := strings.IndexByte(text, '"'); end >= 0 && strings.IndexByte(text[:end], '\\') < 0 {
		return text[:end], text[end+1:], true
	}
	var built strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return built.String(), text[i+1:], true
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		built.WriteByte(text[i])
	}
	return "", "", false
}

// digestMatches checks Content-Digest (RFC 9530) against the digest of the body.
func digestMatches(header string, sum []byte) bool {
	for member := range strings.SplitSeq(header, ",") {
		encoded, found := strings.CutPrefix(strings.TrimSpace(member), "sha-256=:")
		if !found {
			continue
		}
		given, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, ":"))
		return err == nil && subtle.ConstantTimeCompare(given, sum) == 1
	}
	return false
}
