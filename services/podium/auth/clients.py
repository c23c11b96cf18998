"""Clients of the token endpoint and the check of their secrets. CPU only, no I/O."""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from podium.auth.domain import SCOPES, OAuthError

CREDENTIAL = re.compile(r"[A-Za-z0-9._~-]{1,128}")
"""Form of client ids and secrets: unreserved characters, so that no encoding can be got wrong."""

SCRYPT_MAX_MEMORY: Final = 128 * 1024 * 1024
"""Bytes that one check may use; bounds the parameters a stored hash may name."""

_DUMMY: Final = "scrypt$16384$8$1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""Checked for an unknown client, so that the time of the answer does not tell which clients exist."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client by its id: the scrypt hash of its secret and the scopes it may ask for."""

    client_id: str
    hash: str
    scopes: frozenset[str]


def parse_clients(text: str) -> dict[str, Client]:
    """``PODIUM_CLIENTS`` by client id. Raises ValueError without quoting a hash."""
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("clients must be an object by client id")
    clients = {}
    for client_id, entry in document.items():
        if not CREDENTIAL.fullmatch(client_id):
            raise ValueError(f"client id {client_id!r} must be of A-Z a-z 0-9 . _ ~ -")
        try:
            stored, scopes = str(entry["hash"]), frozenset(entry["scopes"])
            _parse_hash(stored)
        except (TypeError, KeyError, ValueError, AttributeError):
            raise ValueError(f"client {client_id!r} needs hash (scrypt$n$r$p$salt$hash) and scopes") from None
        if not scopes <= set(SCOPES):
            raise ValueError(f"client {client_id!r} has a scope that does not exist")
        clients[client_id] = Client(client_id, stored, scopes)
    return clients


def hash_secret(secret: str, *, n: int = 16384, r: int = 8, p: int = 1) -> str:
    """A secret as ``scrypt$n$r$p$salt$hash`` (RFC 7914) with a new random salt."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(secret.encode(), salt=salt, n=n, r=r, p=p, dklen=32, maxmem=SCRYPT_MAX_MEMORY)
    return f"scrypt${n}${r}${p}${_b64(salt)}${_b64(digest)}"


def verify_secret(secret: str, stored: str) -> bool:
    """Whether ``secret`` belongs to the hash. Takes some 50 ms of CPU: run it in a thread."""
    n, r, p, salt, digest = _parse_hash(stored)
    made = hashlib.scrypt(secret.encode(), salt=salt, n=n, r=r, p=p, dklen=len(digest), maxmem=SCRYPT_MAX_MEMORY)
    return hmac.compare_digest(made, digest)


def parse_basic(authorization: str | None) -> tuple[str, str]:
    """Client id and secret of an ``Authorization: Basic`` value (RFC 7617). Raises OAuthError(invalid_client)."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        raise OAuthError("invalid_client", "the client must authenticate with HTTP Basic", status=401)
    try:
        text = base64.b64decode(value.strip(), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    client_id, _, secret = text.partition(":")
    if not CREDENTIAL.fullmatch(client_id) or not CREDENTIAL.fullmatch(secret):
        raise OAuthError("invalid_client", "the client's credentials are malformed", status=401)
    return client_id, secret


class SecretChecker:
    """Checks secrets, remembering right ones by a keyed hash so that scrypt runs once a process and secret."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: dict[str, bytes] = {}

    def known(self, client: Client | None, secret: str) -> bool:
        """Whether this very secret was found right before, for the hash that is in force now."""
        if client is None:
            return False
        mark = self._known.get(client.client_id)
        return mark is not None and hmac.compare_digest(mark, self._mark(client, secret))

    def check(self, client: Client | None, secret: str) -> bool:
        """Whether the secret is right; slow, and as slow for a client that does not exist."""
        right = verify_secret(secret, client.hash if client else _DUMMY)
        if client is None or not right:
            return False
        self._known[client.client_id] = self._mark(client, secret)
        return True

    def _mark(self, client: Client, secret: str) -> bytes:
        return hmac.digest(self._key, f"{client.hash}\0{secret}".encode(), "sha256")


def _parse_hash(stored: str) -> tuple[int, int, int, bytes, bytes]:
    name, n, r, p, salt, digest = stored.split("$")
    parameters = int(n), int(r), int(p)
    if name != "scrypt" or 128 * parameters[0] * parameters[1] * parameters[2] > SCRYPT_MAX_MEMORY:
        raise ValueError("not a scrypt hash within bounds")
    raw_salt, raw_digest = _unb64(salt), _unb64(digest)
    if len(raw_digest) < 16:
        raise ValueError("the hash is too short")
    return *parameters, raw_salt, raw_digest


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


Clients = Mapping[str, Client]
