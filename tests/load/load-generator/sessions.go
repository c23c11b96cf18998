package main

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// Issuer is what the auth service would have: the keys from which tokens and signing keys of sessions are made.
type Issuer struct {
	Issuer        string `json:"issuer"`
	Audience      string `json:"audience"`
	KeyID         string `json:"keyId"`
	Seed          []byte `json:"seed"`
	MasterVersion string `json:"masterVersion"`
	Master        []byte `json:"master"`
	// IssuedAt and ExpiresAt are Unix seconds. They are given, so that every run has the very same tokens.
	IssuedAt  int64 `json:"issuedAt"`
	ExpiresAt int64 `json:"expiresAt"`
}

// session is one user's: its Authorization header and the key that signs its requests.
type session struct {
	authorization string
	keyID         string
	key           []byte
}

type claims struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"`
	ClientID  string `json:"client_id"`
	ExpiresAt int64  `json:"exp"`
	NotBefore int64  `json:"nbf"`
	IssuedAt  int64  `json:"iat"`
	TokenID   string `json:"jti"`
	SessionID string `json:"sid"`
	Scope     string `json:"scope"`
	Username  string `json:"username"`
}

// open makes the session of the user with this number.
func (issuer Issuer) open(number int) (session, error) {
	user := fmt.Sprintf("player-%07d", number)
	sid := fmt.Sprintf("session-%07d", number)
	payload, err := json.Marshal(claims{
		issuer.Issuer, issuer.Audience, user, "bench", issuer.ExpiresAt, issuer.IssuedAt, issuer.IssuedAt,
		fmt.Sprintf("token-%07d", number), sid, "scores:write scoreboard:read", fmt.Sprintf("Player %d", number),
	})
	if err != nil {
		return session{}, err
	}
	header := fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":"at+jwt"}`, issuer.KeyID)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode(payload)
	token := signed + "." + encode(ed25519.Sign(ed25519.NewKeyFromSeed(issuer.Seed), []byte(signed)))
	info := "podium/request-signing/v1\x00" + issuer.Issuer + "\x00" + sid
	key, err := hkdf.Key(sha256.New, issuer.Master, nil, info, 32)
	if err != nil {
		return session{}, err
	}
	return session{"Bearer " + token, issuer.MasterVersion + "." + sid, key}, nil
}
