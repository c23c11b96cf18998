"""Secrets of a Scoreboard: generated once and never overwritten, or derived from others. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets as random
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from podium_operator.spec import Client

PASSWORD_BYTES = 24
"""Random bytes of a generated password (192 bits)."""

MASTER_BYTES = 32
"""Random bytes of a master key of request signing."""

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1
"""Cost of the hash of a client's secret: 16 MiB and some tens of milliseconds (RFC 7914)."""

SCRYPT_MEMORY = 64 * 1024 * 1024
SALT_BYTES = 16
HASH_BYTES = 32

SOURCES = "podium.dev/sources"
"""Annotation of `<sb>-clients`: fingerprint of what the hashes were made from."""

RETAINED = ("postgres",)
"""Secrets without which a data volume is useless: the passwords are in the database itself."""


class ClientSecretProblem(Exception):
    """A client's own Secret is missing or incomplete; the message says what to do."""


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def password() -> str:
    """A new password of letters, digits, - and _."""
    return random.token_urlsafe(PASSWORD_BYTES)


def _key_set() -> str:
    """A JWK Set with one new Ed25519 private key (RFC 8037)."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    kid = _base64url(hashlib.sha256(public).digest()[:12])
    jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": kid,
        "use": "sig",
        "alg": "EdDSA",
        "x": _base64url(public),
        "d": _base64url(private),
    }
    return json.dumps({"keys": [jwk]})


def public_keys(private_set: str) -> str:
    """The JWK Set of the public halves."""
    private_members = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
    keys = json.loads(private_set)["keys"]
    return json.dumps({"keys": [{k: v for k, v in key.items() if k not in private_members} for key in keys]})


def generated() -> dict[str, dict[str, str]]:
    """New values for all Secrets that are made once, by suffix."""
    master = {"current": "1", "keys": {"1": _base64url(random.token_bytes(MASTER_BYTES))}}
    return {
        "postgres": {"superuserPassword": password(), "replicationPassword": password(), "password": password()},
        "redis": {"password": password()},
        "nats": {"password": password()},
        "jwt": {"keys.json": _key_set()},
        "signing": {"master.json": json.dumps(master)},
    }


GENERATED = ("postgres", "redis", "nats", "jwt", "signing")

COPY = "credentials"
"""Suffix of the Secret with a second copy of all that was generated, by `<suffix>.<key>`."""


def completed(suffix: str, live: Mapping[str, str] | None, copy: Mapping[str, str]) -> dict[str, str]:
    """The whole data of a generated Secret: what it holds, what it lacks from the copy, and only then new values.

    The stores learn their passwords once, so a value that was lost would lock them. An empty value counts as lacking.
    """
    values = dict(live or {})
    for name, fresh in generated()[suffix].items():
        values[name] = values.get(name) or copy.get(f"{suffix}.{name}") or fresh
    return values


def copied(stored: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The data of the copy: the generated values of all Secrets as they are now, by suffix."""
    made = generated()
    return {f"{suffix}.{name}": data[name] for suffix, data in stored.items() for name in made[suffix]}


def client_secret(client: Client, data: Mapping[str, str] | None) -> str:
    """The secret of a client from its own Secret. Raises ClientSecretProblem."""
    where = f"client {client.name}: Secret {client.secret_ref.name}"
    if data is None:
        raise ClientSecretProblem(f"{where} does not exist; make it with the key clientSecret")
    if not data.get("clientSecret"):
        raise ClientSecretProblem(f"{where} has no key clientSecret; add it")
    if data.get("clientId", client.name) != client.name:
        raise ClientSecretProblem(f"{where} has another clientId; correct it or the name of the client")
    return data["clientSecret"]


def hashed(secret: str, salt: bytes | None = None) -> str:
    """`scrypt$n$r$p$salt$hash` of a client's secret."""
    salt = salt or random.token_bytes(SALT_BYTES)
    digest = hashlib.scrypt(
        secret.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=SCRYPT_MEMORY, dklen=HASH_BYTES
    )
    return f"scrypt${SCRYPT_N}${SCRYPT_R}${SCRYPT_P}${_base64url(salt)}${_base64url(digest)}"


def clients_file(clients: Mapping[str, tuple[str, list[str]]]) -> str:
    """`clients.json` from secret and scopes by client."""
    content: dict[str, Any] = {
        name: {"hash": hashed(secret), "scopes": scopes} for name, (secret, scopes) in sorted(clients.items())
    }
    return json.dumps(content)


def encode(data: Mapping[str, str]) -> dict[str, str]:
    """The `data` field of a Secret."""
    return {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}


def decode(data: Mapping[str, str] | None) -> dict[str, str]:
    """The values of a Secret's `data` field."""
    return {name: base64.b64decode(value).decode(errors="replace") for name, value in (data or {}).items()}
