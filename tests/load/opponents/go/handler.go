package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const scope = "scores:write"

// Handler answers POST /api/v1/scores/update; the checks come in the order of docs/api.md.
type Handler struct {
	config   *Config
	verifier *TokenVerifier
	security *SecurityState
	nonces   *NonceStore
	store    Store
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	outcome, err := h.update(w, r)
	if err != nil {
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			slog.Error("an update could not be committed", "error", err)
			refusal = errUnavailable
		}
		refusal.write(w)
		return
	}
	body, err := json.Marshal(outcome.Answer)
	if err != nil {
		slog.Error("an answer could not be encoded", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if outcome.Replayed {
		header.Set("Idempotent-Replayed", "true")
	} else {
		rateLimitHeaders(header, Limit{"user", h.config.UserLimit, userWindow}, outcome.Remaining, outcome.Reset)
	}
	_, _ = w.Write(body)
}

func (h *Handler) update(w http.ResponseWriter, r *http.Request) (*Outcome, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, &Refusal{Slug: "body-too-large", Status: 413, Detail: "the body may have at most 16384 bytes"}
		}
		return nil, malformed("the body could not be read")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &Refusal{Slug: "unsupported-media-type", Status: 415, Detail: "the body must be application/json"}
	}
	session, refusal := h.verifier.verify(r.Header.Get("Authorization"))
	if refusal != nil {
		return nil, refusal
	}
	if !session.hasScope(scope) || session.Subject == session.ClientID {
		return nil, &Refusal{Slug: "scope-missing", Status: 403, Detail: "this needs the scope " + scope}
	}
	if refusal = h.security.restriction(session.Subject); refusal != nil {
		return nil, refusal
	}
	sum := sha256.Sum256(body)
	if refusal = h.verifyRequest(r, session, sum[:]); refusal != nil {
		return nil, refusal
	}
	if r.URL.RawQuery != "" {
		return nil, malformed("this operation takes no query")
	}
	parsed, refusal := parseBody(body)
	if refusal != nil {
		return nil, refusal
	}
	award, refused := h.config.Rules.assess(parsed.Type, parsed.Data)
	return h.store.Commit(r.Context(), &Update{
		UserID: session.Subject, Username: session.Username, ActionID: parsed.ActionID, Type: parsed.Type,
		Timestamp: parsed.Timestamp, Metadata: parsed.Metadata, BodySHA: sum[:], Award: award, Refused: refused,
		IPAddress: clientAddress(r), Device: device(r), Signature: r.Header.Get("Signature"),
	})
}

// verifyRequest checks signature, digest and nonce.
func (h *Handler) verifyRequest(r *http.Request, session *Session, sum []byte) *Refusal {
	signed := h.config.SigningRequired || r.Header.Get("Signature-Input") != "" || r.Header.Get("Signature") != ""
	var nonce string
	if signed {
		var refusal *Refusal
		if nonce, refusal = verifySignature(r, session, time.Now()); refusal != nil {
			return refusal
		}
	}
	if digest := r.Header.Get("Content-Digest"); digest != "" && !digestMatches(digest, sum) {
		return &Refusal{Slug: "digest-mismatch", Status: 400, Detail: "Content-Digest is not that of the body"}
	}
	if signed && !h.nonces.spend(r.Context(), session.SigningKeyID, nonce) {
		return unauthorized("replayed-nonce", "this nonce was used before; sign every request with a new one")
	}
	return nil
}

func clientAddress(r *http.Request) string {
	address := r.Header.Get("X-Podium-Client-Ip")
	if address == "" {
		address, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	if net.ParseIP(address) == nil {
		return "0.0.0.0"
	}
	return address
}

func device(r *http.Request) string {
	agent := r.Header.Get("User-Agent")
	return strings.Map(func(each rune) rune {
		if strconv.IsPrint(each) {
			return each
		}
		return -1
	}, agent[:min(len(agent), 256)])
}
