package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Config is read from the variables that Podium's own scores service has.
type Config struct {
	Address         string
	DatabaseURL     string
	DatabasePool    int
	RedisNodes      []string
	RedisPassword   string
	NatsURL         string
	NatsUser        string
	NatsPassword    string
	Issuer          string
	Audience        string
	JWKS            string
	Master          Master
	SigningRequired bool
	UserLimit       int
	// Batched commits many updates in one transaction; else each has a statement of its own.
	Batched bool
	Rules   *Rules
}

// Master holds the signing masters by version.
type Master struct {
	Current string            `json:"current"`
	Keys    map[string]string `json:"keys"`
}

func readConfig() (*Config, error) {
	config := &Config{
		Address: variable("PODIUM_HOST", "127.0.0.1") + ":" + variable("PODIUM_PORT", "8080"),
		DatabaseURL: fmt.Sprintf("host=%s port=%s dbname=%s user=%s password=%s application_name=opponent",
			variable("PODIUM_DATABASE_HOST", "127.0.0.1"), variable("PODIUM_DATABASE_PORT", "5432"),
			variable("PODIUM_DATABASE_NAME", "podium"), variable("PODIUM_DATABASE_USER", "podium"),
			variable("PODIUM_DATABASE_PASSWORD", "")),
		RedisNodes:      strings.Split(variable("PODIUM_REDIS_NODES", "127.0.0.1:6379"), ","),
		RedisPassword:   variable("PODIUM_REDIS_PASSWORD", ""),
		NatsURL:         variable("PODIUM_NATS_URL", "nats://127.0.0.1:4222"),
		NatsUser:        variable("PODIUM_NATS_USER", ""),
		NatsPassword:    variable("PODIUM_NATS_PASSWORD", ""),
		Issuer:          variable("PODIUM_JWT_ISSUER", "podium"),
		Audience:        variable("PODIUM_JWT_AUDIENCE", "podium"),
		JWKS:            variable("PODIUM_JWT_JWKS", `{"keys":[]}`),
		SigningRequired: variable("PODIUM_REQUEST_SIGNING", "Required") == "Required",
		Batched:         variable("OPPONENT_COMMIT", "each") == "batched",
	}
	var err error
	if config.UserLimit, err = strconv.Atoi(variable("PODIUM_UPDATES_PER_USER_PER_MINUTE", "10")); err != nil {
		return nil, fmt.Errorf("PODIUM_UPDATES_PER_USER_PER_MINUTE: %w", err)
	}
	if config.DatabasePool, err = strconv.Atoi(variable("OPPONENT_DATABASE_POOL", "16")); err != nil {
		return nil, fmt.Errorf("OPPONENT_DATABASE_POOL: %w", err)
	}
	if err = json.Unmarshal([]byte(variable("PODIUM_SIGNING_MASTER", "{}")), &config.Master); err != nil {
		return nil, fmt.Errorf("PODIUM_SIGNING_MASTER is malformed")
	}
	config.Rules, err = parseRules(
		variable("PODIUM_BOARDS", "[]"), variable("PODIUM_ACTIONS", "[]"), variable("PODIUM_TIERS", "[]"))
	return config, err
}

func variable(name, otherwise string) string {
	if value, given := os.LookupEnv(name); given {
		return value
	}
	return otherwise
}
