"""Request signatures: one fixed profile of RFC 9421 (HTTP Message Signatures) with derived keys. Pure, no I/O.

The profile, for servers and clients alike:

* label ``sig1``, covered components ``"@method" "@path" "content-digest" "authorization"`` in this order;
* parameters ``created``, ``nonce``, ``keyid`` and ``alg="hmac-sha256"``, each once, in any order, and no others;
* ``Content-Digest: sha-256=:<base64>:`` (RFC 9530) over the body.

Because the profile is fixed, verification is a few string checks and one HMAC. Everything that is not exactly the
profile in its canonical serialisation (RFC 8941) is refused, so there is nothing to negotiate and nothing to confuse.

Keys are derived, not stored: ``key = HKDF-SHA256(master, purpose + issuer + sid)``, ``kid = <master version>.<sid>``.
Whoever holds the master can verify any session without a look-up, and a second master in the set is a rotation.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ALGORITHM = "hmac-sha256"
"""Value of the ``alg`` parameter (RFC 9421, 3.3.3)."""

LABEL = "sig1"
"""The only signature label that is looked at."""

COVERED_COMPONENTS = ("@method", "@path", "content-digest", "authorization")
"""What a signature covers, in this order."""

KEY_BYTES = 32
"""Length of masters and of derived keys, in bytes."""

MAX_CLOCK_SKEW_SECONDS = 300
"""How far ``created`` may be from the server's clock, either way, in seconds."""

MAX_NONCE_CHARACTERS = 128
"""Longest nonce accepted, in characters; the shortest is 1."""

MAX_CACHED_KEYS = 65_536
"""Derived keys kept in memory by one ``SigningKeys``; about 10 µs saved for each request."""

_PURPOSE = b"podium/request-signing/v1"
_COMPONENT_LIST = "(" + " ".join(f'"{name}"' for name in COVERED_COMPONENTS) + ")"
_SF_STRING = r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_PARAMETER = re.compile(rf";([a-z*][a-z0-9_\-.*]*)=(-?[0-9]{{1,15}}|{_SF_STRING})")
CANONICAL_SIGNATURE_INPUT = re.compile(
    rb'sig1=(\("@method" "@path" "content-digest" "authorization"\);created=([0-9]{1,15});'
    rb'nonce="([\x20-\x21\x23-\x5b\x5d-\x7e]{1,128})";keyid="([\x20-\x21\x23-\x5b\x5d-\x7e]*)";alg="hmac-sha256")'
)
"""The spelling of a right ``Signature-Input`` that most clients use: the parameters in this order, no escapes. Its
groups are the serialised parameters, ``created``, ``nonce`` and ``keyid``, as ``parse_signature_input`` reads them."""

_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
_PARAMETER_NAMES = frozenset({"created", "nonce", "keyid", "alg"})
_MASTER_VERSION = re.compile(r"[A-Za-z0-9_-]{1,32}")


class SignatureInvalid(ValueError):
    """The signature is not of the profile, too old, by a foreign key, or wrong. The message may be shown to clients."""


class DigestMismatch(ValueError):
    """Content-Digest is malformed or is not the digest of the body. The message may be shown to clients."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key of one session. ``k`` is secret: 32 bytes."""

    kid: str
    k: bytes

    def as_json(self) -> dict[str, str]:
        """``{"kid", "alg", "k"}`` as the token endpoint hands it out; ``k`` base64url without padding."""
        return {"kid": self.kid, "alg": ALGORITHM, "k": base64.urlsafe_b64encode(self.k).rstrip(b"=").decode()}


def derive_key(master: bytes, sid: str, issuer: str = "podium") -> bytes:
    """The 32-byte signing key of session ``sid``: HKDF-SHA256 (RFC 5869), bound to purpose and issuer."""
    info = b"\x00".join((_PURPOSE, issuer.encode(), sid.encode()))
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master)


def signing_kid(master_version: str, sid: str) -> str:
    """The key id ``<master version>.<sid>``."""
    return f"{master_version}.{sid}"


class SigningKeys:
    """The signing masters of one Scoreboard: issues keys with the current one, finds keys of all of them."""

    def __init__(self, masters: Mapping[str, bytes], current: str, issuer: str = "podium") -> None:
        """Take masters by version; ``current`` signs new sessions. ValueError for a set that cannot work."""
        if current not in masters:
            raise ValueError(f"signing master: the current version {current!r} is not among the keys")
        for version, master in masters.items():
            if not _MASTER_VERSION.fullmatch(version):
                raise ValueError(f"signing master: version {version!r} must be 1 to 32 characters of A-Z a-z 0-9 _ -")
            if len(master) < KEY_BYTES:
                raise ValueError(f"signing master {version!r} must have at least {KEY_BYTES} bytes")
        self._masters = dict(masters)
        self._current = current
        self._issuer = issuer
        self._derive = lru_cache(maxsize=MAX_CACHED_KEYS)(self._derive_uncached)

    @classmethod
    def parse(cls, text: str, issuer: str = "podium") -> "SigningKeys":
        """Read ``PODIUM_SIGNING_MASTER``: ``{"current": "1", "keys": {"1": "<base64url>"}}``.

        ValueError, which does not quote the keys, if it is malformed.
        """
        try:
            document = json.loads(text)
            masters = {str(v): base64.urlsafe_b64decode(k + "=" * (-len(k) % 4)) for v, k in document["keys"].items()}
            current = str(document["current"])
        except (ValueError, KeyError, TypeError, AttributeError):
            # The original error may quote the document, which is secret.
            raise ValueError('signing master: expected {"current": version, "keys": {version: base64url}}') from None
        return cls(masters, current, issuer)

    def issue(self, sid: str) -> SigningKey:
        """The key that session ``sid`` signs with from now on."""
        kid = signing_kid(self._current, sid)
        key = self._derive(kid)
        if key is None:  # pragma: no cover - the constructor made sure of the current master
            raise ValueError("signing master: no current key")
        return SigningKey(kid, key)

    def key_for(self, kid: str) -> bytes | None:
        """The key with this id, or None if no master has its version."""
        # Only ids of ours are kept: what a client makes up must not fill memory.
        return self._derive(kid) if kid.partition(".")[0] in self._masters else None

    def _derive_uncached(self, kid: str) -> bytes | None:
        version, dot, sid = kid.partition(".")
        master = self._masters.get(version)
        if master is None or not dot or not sid:
            return None
        return derive_key(master, sid, self._issuer)


@dataclass(frozen=True, slots=True)
class SignatureInput:
    """The parameters of one ``Signature-Input``; ``raw`` is their serialisation, which is signed too."""

    raw: str
    created: int
    nonce: str
    keyid: str


def content_digest(body: bytes) -> str:
    """The value of ``Content-Digest`` for ``body`` (RFC 9530), SHA-256."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def verify_content_digest(header: str, body: bytes) -> None:
    """Raise DigestMismatch unless ``header`` holds one right SHA-256 digest of ``body``.

    Digests by other algorithms may stand beside it and are not looked at (RFC 9530, 2).
    """
    found: bytes | None = None
    for member in header.split(","):
        name, _, value = member.strip(" \t").partition("=")
        if name != "sha-256":
            continue
        if found is not None:
            raise DigestMismatch("Content-Digest names sha-256 more than once")
        found = _byte_sequence(value)
        if found is None:
            raise DigestMismatch("Content-Digest must be sha-256=:<base64>:")
    if found is None:
        raise DigestMismatch("Content-Digest holds no sha-256 digest")
    if not hmac.compare_digest(found, hashlib.sha256(body).digest()):
        raise DigestMismatch("Content-Digest is not the SHA-256 digest of the body")


def parse_signature_input(header: str) -> SignatureInput:
    """Parse ``Signature-Input`` strictly after the profile; SignatureInvalid for anything else.

    One member only: a second label, doubled header or doubled parameter is refused instead of guessed at.
    """
    prefix = f"{LABEL}={_COMPONENT_LIST}"
    if not header.startswith(prefix):
        raise SignatureInvalid(f"Signature-Input must begin with {prefix}")
    raw = header[len(LABEL) + 1 :]
    values: dict[str, str] = {}
    position = len(_COMPONENT_LIST)
    while position < len(raw):
        match = _PARAMETER.match(raw, position)
        if match is None:
            raise SignatureInvalid("Signature-Input is malformed after its components")
        name, value = match.groups()
        if name not in _PARAMETER_NAMES or name in values:
            raise SignatureInvalid(f"Signature-Input has an unexpected or doubled parameter {name}")
        values[name] = value
        position = match.end()
    if len(values) != len(_PARAMETER_NAMES):
        missing = ", ".join(sorted(_PARAMETER_NAMES - values.keys()))
        raise SignatureInvalid(f"Signature-Input lacks {missing}")
    if values["created"].startswith('"'):
        raise SignatureInvalid("created must be an integer of Unix seconds")
    if values["alg"] != f'"{ALGORITHM}"':
        raise SignatureInvalid(f'alg must be "{ALGORITHM}"')
    nonce = _sf_string(values["nonce"])
    keyid = _sf_string(values["keyid"])
    if not 1 <= len(nonce) <= MAX_NONCE_CHARACTERS:
        raise SignatureInvalid(f"nonce must have 1 to {MAX_NONCE_CHARACTERS} characters")
    return SignatureInput(raw=raw, created=int(values["created"]), nonce=nonce, keyid=keyid)


def parse_signature(header: str) -> bytes:
    """The bytes of ``Signature: sig1=:…:``; SignatureInvalid for anything else."""
    name, _, value = header.partition("=")
    signature = _byte_sequence(value) if name == LABEL else None
    if signature is None:
        raise SignatureInvalid(f"Signature must be {LABEL}=:<base64>:")
    return signature


def signature_base(method: str, path: str, content_digest_value: str, authorization: str, params: str) -> str:
    """The signature base of the profile (RFC 9421, 2.5).

    ``params`` is ``SignatureInput.raw``; ``path`` is as the client sent it: still percent-encoded, without the query.
    """
    return (
        f'"@method": {method}\n'
        f'"@path": {path or "/"}\n'
        f'"content-digest": {content_digest_value.strip()}\n'
        f'"authorization": {authorization.strip()}\n'
        f'"@signature-params": {params}'
    )


def sign_base(key: bytes, base: str) -> bytes:
    """HMAC-SHA256 of a signature base (RFC 9421, 3.3.3)."""
    return hmac.digest(key, base.encode("latin-1"), "sha256")


def verify_request(
    *,
    method: str,
    path: str,
    authorization: str,
    content_digest_header: str | None,
    signature_input_header: str,
    signature_header: str,
    keys: SigningKeys,
    sid: str,
    now: float,
) -> SignatureInput:
    """Verify a request's signature for the session ``sid`` of its token, and give its parameters.

    ``now`` is Unix seconds. Raises SignatureInvalid. The caller checks the digest against the body and the nonce
    afterwards, in this order.
    """
    params = parse_signature_input(signature_input_header.strip(" \t"))
    signature = parse_signature(signature_header.strip(" \t"))
    if content_digest_header is None:
        raise SignatureInvalid("the covered component content-digest is missing")
    if abs(now - params.created) > MAX_CLOCK_SKEW_SECONDS:
        raise SignatureInvalid(f"created is more than {MAX_CLOCK_SKEW_SECONDS} s off the server's clock")
    key = keys.key_for(params.keyid) if params.keyid.partition(".")[2] == sid else None
    if key is None:
        raise SignatureInvalid("keyid is not the signing key of this token's session")
    base = signature_base(method, path, content_digest_header, authorization, params.raw)
    if not hmac.compare_digest(sign_base(key, base), signature):
        raise SignatureInvalid("the signature does not match")
    return params


def sign_request(
    key: bytes,
    kid: str,
    *,
    method: str,
    path: str,
    authorization: str,
    body: bytes,
    created: int | None = None,
    nonce: str | None = None,
) -> dict[str, str]:
    """The headers ``Content-Digest``, ``Signature-Input`` and ``Signature`` of a request, for clients.

    ``authorization`` is the whole header value (``Bearer …``). ``created`` (Unix seconds) defaults to now, ``nonce`` to
    128 random bits.
    """
    created = int(time.time()) if created is None else created
    nonce = secrets.token_urlsafe(16) if nonce is None else nonce
    digest = content_digest(body)
    params = f'{_COMPONENT_LIST};created={created};nonce={_quote(nonce)};keyid={_quote(kid)};alg="{ALGORITHM}"'
    signature = sign_base(key, signature_base(method, path, digest, authorization, params))
    return {
        "Content-Digest": digest,
        "Signature-Input": f"{LABEL}={params}",
        "Signature": f"{LABEL}=:{base64.b64encode(signature).decode()}:",
    }


def _byte_sequence(value: str) -> bytes | None:
    match = _BYTE_SEQUENCE.fullmatch(value)
    if match is None:
        return None
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return None


def _sf_string(value: str) -> str:
    if not value.startswith('"'):
        raise SignatureInvalid("nonce and keyid must be strings")
    return value[1:-1].replace("\\\\", "\x00").replace('\\"', '"').replace("\x00", "\\")


def _quote(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("a structured string must be printable ASCII")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
