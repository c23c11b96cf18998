"""Verification of access tokens."""

import base64
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

from podium.common.tokens import (
    Claims,
    JwksFile,
    ScopeMissing,
    StaticJwks,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenVerifier,
    bearer,
    parse_bearer,
    parse_jwks,
    require_scope,
)

NOW = 1_800_000_000
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
EC_KEY = generate_private_key(SECP256R1())
CLAIMS: Mapping[str, Any] = {
    "iss": "podium", "aud": "board", "sub": "u1", "client_id": "game", "iat": NOW, "nbf": NOW, "exp": NOW + 300,
    "jti": "j", "sid": "s1", "scope": "scores:write scoreboard:read", "username": "Ann",
}  # fmt: skip


def _jwk(key: Ed25519PrivateKey, kid: str) -> dict[str, Any]:
    public: dict[str, Any] = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, "alg": "EdDSA", "use": "sig"}


JWKS: dict[str, Any] = {"keys": [_jwk(KEY, "k1")]}


class Clock:
    """A clock that the test turns."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _token(claims: Mapping[str, Any] = CLAIMS, key: Any = KEY, algorithm: str = "EdDSA", **headers: Any) -> str:
    return jwt.encode(dict(claims), key, algorithm=algorithm, headers={"typ": "at+jwt", "kid": "k1", **headers})


def _verifier(clock: Clock | None = None, revoked: set[str] | None = None, **options: Any) -> TokenVerifier:
    return TokenVerifier(
        StaticJwks(JWKS),
        "podium",
        "board",
        ("EdDSA",),
        (revoked or set()).__contains__,
        clock=clock or Clock(),
        **options,
    )


def test_a_genuine_token_gives_its_claims() -> None:
    """Everything that services need is in the claims."""
    assert _verifier().verify(_token()) == Claims(
        "u1", "s1", "game", frozenset({"scores:write", "scoreboard:read"}), "Ann", NOW + 300, "j"
    )


@pytest.mark.parametrize("name", sorted(set(CLAIMS) - {"username"}))
def test_every_claim_is_needed(name: str) -> None:
    """A token that lacks a claim of the contract is no token of ours."""
    with pytest.raises(TokenInvalid):
        _verifier().verify(_token({key: value for key, value in CLAIMS.items() if key != name}))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "other"}, {"aud": "other"}, {"sub": ""}, {"sub": 1}, {"sid": "a.b"}, {"sid": ""}, {"scope": ["admin"]},
        {"exp": "soon"}, {"nbf": NOW + 60}, {"iat": NOW + 60}, {"username": 7}, {"exp": True},
    ],
)  # fmt: skip
def test_wrong_claims_are_refused(change: dict[str, Any]) -> None:
    """Another issuer, audience, form or time."""
    with pytest.raises(TokenInvalid):
        _verifier().verify(_token({**CLAIMS, **change}))


def test_expiry_is_to_the_second_and_named() -> None:
    """At `exp` the token is expired, also one that was verified before."""
    clock = Clock()
    verifier, token = _verifier(clock), _token()
    verifier.verify(token)
    clock.now = NOW + 299.9
    verifier.verify(token)
    clock.now = NOW + 300
    with pytest.raises(TokenExpired):
        verifier.verify(token)
    with pytest.raises(TokenExpired):
        _verifier(clock).verify(token)


def test_a_revoked_session_ends_at_once_though_its_token_is_cached() -> None:
    """Revocation is looked at every time."""
    revoked: set[str] = set()
    verifier, token = TokenVerifier(
        StaticJwks(JWKS), "podium", "board", ("EdDSA",), revoked.__contains__, clock=Clock()
    ), _token()  # fmt: skip
    verifier.verify(token)
    revoked.add("s1")
    with pytest.raises(TokenInvalid):
        verifier.verify(token)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _forged(signature: bytes | None = None, **header: Any) -> str:
    """A token with this header that no library would make; HMAC with the public key (RS→HS confusion) if unsigned."""
    start = _b64(json.dumps({"typ": "at+jwt", "kid": "k1", **header}).encode()) + "." + _token().split(".")[1]
    public = base64.urlsafe_b64decode(JWKS["keys"][0]["x"] + "=")
    return f"{start}.{_b64(hmac.digest(public, start.encode(), 'sha256') if signature is None else signature)}"


@pytest.mark.parametrize(
    "token",
    [
        "", "a", "a.b.c", "a.b.c.d", "…", "x" * 9000, _forged(alg="HS256"), _forged(b"", alg="none"),
        _forged(alg="EdDSA"), _forged(alg="EdDSA", kid=7), _forged(alg=7), _token(key=OTHER),
        _token(kid="k2"), _token(typ="JWT"), _token(typ=None), _token(crit=["exp"]),
        _token(crit=["x"], x=1),
        _token(key=EC_KEY, algorithm="ES256"), _token() + "=", _token() + ".", " " + _token(), _token()[:-1],
    ],
)  # fmt: skip
def test_forgeries_are_refused(token: str) -> None:
    """none, HMAC with the public key, foreign keys and types, `crit`, and other spellings."""
    with pytest.raises(TokenInvalid):
        _verifier().verify(token)


def test_no_other_spelling_of_a_signature_passes() -> None:
    """The unused bits of the last base64url character are not free to change."""
    token = _token()
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if last != token[-1]:
            with pytest.raises(TokenInvalid):
                _verifier().verify(token[:-1] + last)


def test_es256_keys_work_where_they_are_allowed() -> None:
    """The algorithm is the key's own, and must be an accepted one."""
    jwk = {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "k1", "alg": "ES256"}
    token = _token(key=EC_KEY, algorithm="ES256")
    source = StaticJwks({"keys": [jwk]})
    assert TokenVerifier(source, "podium", "board", ("ES256",), clock=Clock()).verify(token).sub == "u1"
    with pytest.raises(TokenInvalid):
        TokenVerifier(source, "podium", "board", ("EdDSA",), clock=Clock()).verify(token)


def test_symmetric_algorithms_cannot_be_configured() -> None:
    """Nor can `none`."""
    for name in ("none", "HS256"):
        with pytest.raises(ValueError, match="public keys"):
            TokenVerifier(StaticJwks(JWKS), "podium", "board", (name,))


def test_the_cache_is_bounded_and_forgets_withdrawn_keys(tmp_path: Path) -> None:
    """A key that leaves the file takes its verified tokens along, within a second; a broken file changes nothing."""
    path, ticks = tmp_path / "jwks.json", Clock(0)
    path.write_text(json.dumps(JWKS))
    verifier = TokenVerifier(JwksFile(path, ticks), "podium", "board", clock=Clock(), cache_size=2)
    for number in range(5):
        verifier.verify(_token({**CLAIMS, "jti": str(number)}))
    assert len(verifier._cache) == 2
    path.write_text("{")
    ticks.now += 1
    verifier.verify(_token())
    replaced = tmp_path / "new"
    replaced.write_text(json.dumps({"keys": [_jwk(OTHER, "k2")]}))
    replaced.replace(path)
    verifier.verify(_token())  # not looked at within the second
    ticks.now += 1
    with pytest.raises(TokenInvalid):
        verifier.verify(_token())
    assert verifier.verify(_token(key=OTHER, kid="k2")).sub == "u1"


def test_private_parts_never_enter_a_key_set() -> None:
    """A private JWK is taken as its public half, and other kinds of keys are left out."""
    private = {**OKPAlgorithm.to_jwk(KEY, as_dict=True), "kid": "k1"}
    secret = {"kty": "oct", "k": "AAAA", "kid": "h"}
    keys = parse_jwks({"keys": [private, secret, {"kty": "OKP"}]})
    assert list(keys) == ["k1"]
    with pytest.raises(ValueError, match="array"):
        parse_jwks({})


def test_the_bearer_scheme_is_read_as_rfc_6750_has_it() -> None:
    """Any case of the scheme; no token, another scheme and an odd token are told apart."""
    assert parse_bearer("bEARER  abc.def") == "abc.def"
    assert bearer({"authorization": "Bearer x"}) == "x"
    for missing in (None, "", "Bearer", "Bearer ", "Basic YTpi"):
        with pytest.raises(TokenMissing):
            parse_bearer(missing)
    for odd in ("Bearer a b", "Bearer ü", "Bearer a,b"):
        with pytest.raises(TokenInvalid):
            parse_bearer(odd)


def test_a_missing_scope_is_named_in_the_challenge() -> None:
    """403 with insufficient_scope; 401 names invalid_token, and a missing token names nothing (RFC 6750, 3.1)."""
    claims = _verifier().verify(_token())
    require_scope(claims, "scores:write")
    with pytest.raises(ScopeMissing) as refused:
        require_scope(claims, "admin")
    assert (refused.value.status, refused.value.slug) == (403, "scope-missing")
    assert 'error="insufficient_scope", scope="admin"' in refused.value.headers["WWW-Authenticate"]
    assert 'error="invalid_token"' in TokenExpired().headers["WWW-Authenticate"]
    assert "error" not in TokenMissing().headers["WWW-Authenticate"]
