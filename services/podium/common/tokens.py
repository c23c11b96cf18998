"""Verify access tokens: signed JWTs of type ``at+jwt`` (RFC 9068) against a JWK Set (RFC 7517).

Pure verification, no network: the key set comes from a file the operator mounts, revocations from memory. A bounded
cache remembers tokens whose signature was right, so a busy session costs one signature check for each token; expiry
and revocation are looked at every time.
"""

import base64
import binascii
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import jwt
import structlog

from podium.common.problems import Problem
from podium.common.settings import JwtSettings

TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - a media type, not a secret
"""``typ`` of an access token (RFC 9068, section 2.1)."""

MAX_TOKEN_CHARS: Final = 8192
"""Longest token looked at, in characters; anything longer is refused unread."""

CLOCK_SKEW_SECONDS: Final = 5
"""How far ahead of this pod's clock ``nbf`` and ``iat`` may lie; ``exp`` has no leeway."""

CACHE_TOKENS: Final = 16_384
"""Verified tokens remembered in one process (at most about 20 MB)."""

FILE_CHECK_SECONDS: Final = 1.0
"""How often a key file is looked at for a change."""

T = TypeVar("T")

_log = structlog.get_logger("podium.tokens")
_REALM: Final = 'Bearer realm="podium"'
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_SID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "client_id", "exp", "nbf", "iat", "jti", "sid", "scope")


class TokenError(Problem):
    """A request that may not go on, for a reason its token gives; itself the problem document to answer with."""


class TokenMissing(TokenError):
    """No bearer token was sent."""

    def __init__(self, detail: str = "an access token is required") -> None:
        super().__init__("token-missing", 401, detail, headers={"WWW-Authenticate": _REALM})


class TokenInvalid(TokenError):
    """Not a token of ours: form, type, key, signature, issuer, audience or claims, or a revoked session."""

    def __init__(self, detail: str, *, slug: str = "token-invalid") -> None:
        challenge = f'{_REALM}, error="invalid_token", error_description="{detail}"'
        super().__init__(slug, 401, detail, headers={"WWW-Authenticate": challenge})


class TokenExpired(TokenInvalid):
    """A genuine token after its ``exp``."""

    def __init__(self) -> None:
        super().__init__("the token has expired", slug="token-expired")


class ScopeMissing(TokenError):
    """A valid token without the scope that the operation asks for."""

    def __init__(self, scope: str) -> None:
        challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
        super().__init__("scope-missing", 403, f"this needs the scope {scope}", headers={"WWW-Authenticate": challenge})


@dataclass(frozen=True, slots=True)
class Claims:
    """What an access token says. ``exp`` in Unix seconds; ``sub`` equals ``client_id`` for a client's own token."""

    sub: str
    sid: str
    client_id: str
    scope: frozenset[str]
    username: str
    exp: int
    jti: str

    @property
    def is_client(self) -> bool:
        """True for a token of the client itself, which speaks for no user."""
        return self.sub == self.client_id


class JwksSource(Protocol):
    """Where public keys come from."""

    def keys(self) -> Mapping[str, jwt.PyJWK]:
        """The current keys by ``kid``; another object whenever the set has changed."""
        ...


def parse_jwks(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """The public verification keys of a JWK Set by ``kid``; private parts are dropped, keys without ``kid`` ignored.

    Raises ValueError for a document that is no JWK Set or holds a key that cannot be used.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("a JWK Set needs an array named keys")
    keys: dict[str, jwt.PyJWK] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
            continue
        if entry.get("kty") not in ("OKP", "EC", "RSA") or entry.get("use", "sig") != "sig":
            continue
        public = {name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
        try:
            keys[entry["kid"]] = jwt.PyJWK(public)
        except (jwt.PyJWTError, ValueError) as error:
            raise ValueError(f"key {entry['kid']} cannot be used: {error}") from error
    return keys


class StaticJwks:
    """A key set given once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._keys = parse_jwks(document)

    def keys(self) -> Mapping[str, jwt.PyJWK]:
        return self._keys


class ReloadingFile(Generic[T]):
    """The parsed content of a file, read again within a second of its change: rotation needs no restart.

    A file that is unreadable for a moment, or that ``parse`` refuses with ValueError, leaves the last good value in
    force; only the first read raises (OSError or ValueError).
    """

    def __init__(self, path: Path, parse: Callable[[str], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._parse = parse
        self._clock = clock
        self._stamp = _stamp(path)
        self._value = parse(path.read_text(encoding="utf-8"))
        self._checked = clock()

    def value(self) -> T:
        """The newest good value; the same object for as long as the file stays as it is."""
        now = self._clock()
        if now - self._checked >= FILE_CHECK_SECONDS:
            self._checked = now
            try:
                stamp = _stamp(self._path)
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._value = self._parse(self._path.read_text(encoding="utf-8"))
                    _log.info("file read again", file=self._path.name)
            except (OSError, ValueError) as error:
                _log.error(
                    "file cannot be used, keeping its last content", file=self._path.name, error=type(error).__name__
                )
        return self._value


class JwksFile:
    """A key set in a file that may change."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = ReloadingFile(path, lambda text: parse_jwks(json.loads(text)), clock)

    def keys(self) -> Mapping[str, jwt.PyJWK]:
        return self._file.value()


def _stamp(path: Path) -> tuple[int, int, int]:
    # A mounted Secret changes by swapping a symbolic link, so the inode tells more than the time.
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


class TokenVerifier:
    """Decides whether a token is one of ours, right now.

    ``jwks_source`` gives the public keys, ``algorithms`` the only signature algorithms accepted (never ``none`` or a
    symmetric one), ``is_revoked`` answers for a session id from memory, ``clock`` is Unix time in seconds.
    """

    def __init__(
        self,
        jwks_source: JwksSource,
        issuer: str,
        audience: str,
        algorithms: tuple[str, ...] = ("EdDSA", "ES256"),
        is_revoked: Callable[[str], bool] = lambda sid: False,
        *,
        clock: Callable[[], float] = time.time,
        cache_size: int = CACHE_TOKENS,
    ) -> None:
        if any(name == "none" or name.startswith("HS") for name in algorithms):
            raise ValueError("access tokens are verified with public keys only")
        self._source = jwks_source
        self._issuer = issuer
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._is_revoked = is_revoked
        self._clock = clock
        self._cache: OrderedDict[str, Claims] = OrderedDict()
        self._cache_size = cache_size
        self._cache_keys: Mapping[str, jwt.PyJWK] | None = None

    def trusted_keys(self) -> object:
        """The key set in force: another object as soon as it has changed, so that what was verified must be again."""
        return self._source.keys()

    def verify(self, token: str) -> Claims:
        """The claims of a valid token.

        Raises TokenExpired, TokenInvalid for every other fault, and what ``is_revoked`` raises where it cannot tell.
        """
        keys = self._source.keys()
        if keys is not self._cache_keys:  # a key may have been withdrawn
            self._cache.clear()
            self._cache_keys = keys
        claims = self._cache.get(token)
        if claims is None:
            claims = self._decode(token, keys)
            self._cache[token] = claims
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        if claims.exp <= self._clock():
            self._cache.pop(token, None)
            raise TokenExpired
        if self._is_revoked(claims.sid):
            raise TokenInvalid("the session has been revoked")
        return claims

    def _decode(self, token: str, keys: Mapping[str, jwt.PyJWK]) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii() or not _is_canonical(token):
            raise TokenInvalid("the token is malformed")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise TokenInvalid("the token is malformed") from error
        if str(header.get("typ", "")).lower().removeprefix("application/") != TOKEN_TYPE:
            raise TokenInvalid("the token is not an access token")
        if "crit" in header:  # RFC 7515, section 4.1.11: no extension is understood here
            raise TokenInvalid("the token uses an unknown extension")
        kid = header.get("kid")
        key = keys.get(kid) if isinstance(kid, str) else None
        if key is None or header.get("alg") not in self._algorithms or key.algorithm_name != header["alg"]:
            raise TokenInvalid("the token is signed by an unknown key or algorithm")
        try:
            payload = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                # Times are judged below, by this object's clock.
                options={
                    "require": list(_REQUIRED_CLAIMS),
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenInvalid("the token's signature or claims are wrong") from error
        return self._claims(payload)

    def _claims(self, payload: Mapping[str, Any]) -> Claims:
        exp, nbf, iat = (payload[name] for name in ("exp", "nbf", "iat"))
        texts = [payload[name] for name in ("sub", "client_id", "jti", "sid", "scope")]
        username = payload.get("username", payload["sub"])
        if not all(isinstance(value, int) and not isinstance(value, bool) for value in (exp, nbf, iat)):
            raise TokenInvalid("the token's times are malformed")
        if not all(isinstance(text, str) for text in (*texts, username)) or not _SID.fullmatch(payload["sid"]):
            raise TokenInvalid("the token's claims are malformed")
        if not payload["sub"]:
            raise TokenInvalid("the token's claims are malformed")
        if max(nbf, iat) > self._clock() + CLOCK_SKEW_SECONDS:
            raise TokenInvalid("the token is not valid yet")
        return Claims(
            sub=payload["sub"],
            sid=payload["sid"],
            client_id=payload["client_id"],
            scope=frozenset(payload["scope"].split()),
            username=username,
            exp=exp,
            jti=payload["jti"],
        )


def make_verifier(settings: JwtSettings, is_revoked: Callable[[str], bool]) -> TokenVerifier:
    """The verifier that the settings describe. Raises OSError or ValueError where the key set cannot be read."""
    source: JwksSource = JwksFile(settings.jwks_file) if settings.jwks_file else StaticJwks(json.loads(settings.jwks))
    return TokenVerifier(source, settings.issuer, settings.audience, (settings.algorithm,), is_revoked)


def _is_canonical(token: str) -> bool:
    """Three parts of base64url, each the only spelling of its bytes: so no altered token passes as the same one."""
    parts = token.split(".")
    if len(parts) != 3:
        return False
    for part in parts:
        try:
            raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
            return False
    return True


def parse_bearer(authorization: str | None) -> str:
    """The token of an ``Authorization`` value (RFC 6750, section 2.1). Raises TokenMissing or TokenInvalid."""
    if authorization is None:
        raise TokenMissing("an access token is required")
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise TokenMissing("an access token of the scheme Bearer is required")
    token = token.strip(" ")
    if not token:
        raise TokenMissing("an access token is required")
    if not _B64TOKEN.fullmatch(token):
        raise TokenInvalid("the token is malformed")
    return token


def bearer(headers: Mapping[str, str]) -> str:
    """The bearer token of a request; ``headers`` as Starlette has them. Raises TokenMissing or TokenInvalid."""
    return parse_bearer(headers.get("authorization"))


def require_scope(claims: Claims, scope: str) -> None:
    """Let only tokens with ``scope`` pass. Raises ScopeMissing."""
    if scope not in claims.scope:
        raise ScopeMissing(scope)
