"""Metrics of the auth service."""

from prometheus_client import Counter

TOKENS_ISSUED = Counter("podium_auth_tokens_issued_total", "Access tokens issued, by grant", ["grant"])
TOKEN_ERRORS = Counter("podium_auth_token_errors_total", "Refused token requests, by OAuth error", ["error"])
REVOCATIONS = Counter("podium_auth_revocations_total", "Sessions ended before their time, by reason", ["reason"])
RESTRICTIONS = Counter("podium_auth_restrictions_total", "Changes of users' restrictions, by kind", ["kind"])
DELIVERIES = Counter(
    "podium_auth_deliveries_total", "Revocations and restrictions told to every pod, by kind and way", ["kind", "way"]
)
