"""The keys that sign access tokens, and the tokens made with them."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from podium.auth.domain import Session
from podium.common.tokens import TOKEN_TYPE

_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
"""Members of a JWK that must never be published (RFC 7518, section 6)."""


@dataclass(frozen=True, slots=True)
class SigningSet:
    """The key that signs, and the public half of every key of the set."""

    kid: str
    key: jwt.PyJWK
    public: tuple[Mapping[str, Any], ...]


def parse_private_keys(text: str, algorithm: str) -> SigningSet:
    """A JWK Set with private keys, the first of which signs. Raises ValueError without quoting a key."""
    try:
        entries = json.loads(text)["keys"]
        first = entries[0]
        kid, key = str(first["kid"]), jwt.PyJWK(first)
        public = tuple({name: value for name, value in entry.items() if name not in _PRIVATE} for entry in entries)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, jwt.PyJWTError):
        raise ValueError("PODIUM_JWT_KEYS must be a JWK Set whose first key is private and has a kid") from None
    if "d" not in first or key.algorithm_name != algorithm:
        raise ValueError(f"the first key of PODIUM_JWT_KEYS must be a private key for {algorithm}")
    return SigningSet(kid, key, public)


def public_jwks(signing: SigningSet, published: Mapping[str, Any]) -> dict[str, Any]:
    """The key set to publish: what the operator publishes, and for certain the key that signs now."""
    keys: dict[str, Mapping[str, Any]] = {}
    for entry in (*published.get("keys", ()), *signing.public):
        keys.setdefault(str(entry.get("kid")), {name: value for name, value in entry.items() if name not in _PRIVATE})
    return {"keys": list(keys.values())}


def make_access_token(
    signing: SigningSet, session: Session, *, scope: str, issuer: str, audience: str, now: int, lifetime: int
) -> str:
    """A signed access token (RFC 9068); ``now`` is Unix time, ``lifetime`` in seconds."""
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": session.user_id,
        "client_id": session.client_id,
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": secrets.token_urlsafe(16),
        "sid": session.sid,
        "scope": scope,
        "username": session.username,
    }
    headers = {"typ": TOKEN_TYPE, "kid": signing.kid}
    return jwt.encode(claims, signing.key, algorithm=signing.key.algorithm_name, headers=headers)
