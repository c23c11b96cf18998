package main

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	cachedTokens   = 16_384
	maxTokenLength = 8192
	clockSkew      = 5 * time.Second
)

// Session is what a verified token says, and the key its requests are signed with.
type Session struct {
	Subject  string
	Username string
	ClientID string
	SID      string
	Scopes   []string
	Expires  time.Time

	SigningKeyID string
	SigningKey   []byte
}

type tokenClaims struct {
	jwt.RegisteredClaims
	ClientID string `json:"client_id"`
	SID      string `json:"sid"`
	Scope    string `json:"scope"`
	Username string `json:"username"`
}

// TokenVerifier verifies access tokens and remembers those whose signature was right, within a bound. Expiry and
// revocation are looked at every time.
type TokenVerifier struct {
	keys   map[string]ed25519.PublicKey
	parser *jwt.Parser
	cache  *lru.Cache[string, *Session]
	config *Config
	state  *SecurityState
}

func newTokenVerifier(config *Config, state *SecurityState) (*TokenVerifier, error) {
	var set struct {
		Keys []struct {
			Kid string `json:"kid"`
			X   string `json:"x"`
		} `json:"keys"`
	}
	if err := json.Unmarshal([]byte(config.JWKS), &set); err != nil {
		return nil, fmt.Errorf("PODIUM_JWT_JWKS: %w", err)
	}
	cache, err := lru.New[string, *Session](cachedTokens)
	if err != nil {
		return nil, err
	}
	verifier := &TokenVerifier{keys: map[string]ed25519.PublicKey{}, cache: cache, config: config, state: state}
	for _, key := range set.Keys {
		public, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil || len(public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("PODIUM_JWT_JWKS: key %s cannot be used", key.Kid)
		}
		verifier.keys[key.Kid] = public
	}
	verifier.parser = jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(config.Issuer),
		jwt.WithAudience(config.Audience), jwt.WithExpirationRequired(), jwt.WithLeeway(clockSkew), jwt.WithStrictDecoding())
	return verifier, nil
}

// verify gives the session of the token in an Authorization header.
func (v *TokenVerifier) verify(authorization string) (*Session, *Refusal) {
	scheme, token, _ := strings.Cut(authorization, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return nil, unauthorized("token-missing", "an access token is required")
	}
	session, found := v.cache.Get(token)
	if !found {
		var refusal *Refusal
		if session, refusal = v.parse(token); refusal != nil {
			return nil, refusal
		}
		v.cache.Add(strings.Clone(token), session)
	}
	if !time.Now().Before(session.Expires) {
		v.cache.Remove(token)
		return nil, unauthorized("token-expired", "the token has expired")
	}
	if v.state.isRevoked(session.SID) {
		return nil, unauthorized("token-invalid", "the session has been revoked")
	}
	return session, nil
}

func (v *TokenVerifier) parse(token string) (*Session, *Refusal) {
	invalid := unauthorized("token-invalid", "the token's signature or claims are wrong")
	if len(token) > maxTokenLength {
		return nil, invalid
	}
	var claims tokenClaims
	_, err := v.parser.ParseWithClaims(token, &claims, func(token *jwt.Token) (any, error) {
		kind, _ := token.Header["typ"].(string)
		if !strings.EqualFold(strings.TrimPrefix(kind, "application/"), "at+jwt") {
			return nil, errors.New("not an access token")
		}
		kid, _ := token.Header["kid"].(string)
		key, known := v.keys[kid]
		if !known {
			return nil, errors.New("unknown key")
		}
		return key, nil
	})
	if errors.Is(err, jwt.ErrTokenExpired) {
		return nil, unauthorized("token-expired", "the token has expired")
	}
	if err != nil || claims.Subject == "" || claims.SID == "" || claims.ClientID == "" {
		return nil, invalid
	}
	session := &Session{
		Subject: claims.Subject, Username: claims.Username, ClientID: claims.ClientID, SID: claims.SID,
		Scopes: strings.Fields(claims.Scope), Expires: claims.ExpiresAt.Time,
	}
	if session.Username == "" {
		session.Username = session.Subject
	}
	master := v.config.Master
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(master.Keys[master.Current], "="))
	if err != nil {
		return nil, invalid
	}
	info := "podium/request-signing/v1\x00" + v.config.Issuer + "\x00" + claims.SID
	if session.SigningKey, err = hkdf.Key(sha256.New, secret, nil, info, 32); err != nil {
		return nil, invalid
	}
	session.SigningKeyID = master.Current + "." + claims.SID
	return session, nil
}

func (s *Session) hasScope(scope string) bool { return slices.Contains(s.Scopes, scope) }
