"""Clients and their secrets; the keys that sign."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from podium.auth.clients import Client, SecretChecker, hash_secret, parse_basic, parse_clients, verify_secret
from podium.auth.domain import OAuthError
from podium.auth.keys import parse_private_keys, public_jwks

HASH = hash_secret("right", n=1024)


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def _private(kid: str) -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True), "kid": kid}


def test_a_secret_is_right_or_wrong() -> None:
    """Only the secret itself verifies, and two hashes of it differ."""
    assert verify_secret("right", HASH)
    assert not verify_secret("Right", HASH)
    assert hash_secret("right", n=1024) != HASH


def test_a_right_secret_is_remembered_until_its_hash_changes() -> None:
    """scrypt runs once; a rotated or withdrawn secret is not good any more."""
    checker, client = SecretChecker(), Client("game", HASH, frozenset())
    assert not checker.known(client, "right")
    assert not checker.check(client, "wrong")
    assert checker.check(client, "right")
    assert checker.known(client, "right")
    assert not checker.known(client, "wrong")
    assert not checker.known(Client("game", hash_secret("right", n=1024), frozenset()), "right")
    assert not checker.check(None, "right")
    assert not checker.known(None, "right")


def test_basic_credentials_are_read() -> None:
    """RFC 7617, with ids and secrets of unreserved characters only."""
    assert parse_basic(_basic("game:a.b_c~d-e")) == ("game", "a.b_c~d-e")
    for bad in (
        None,
        "",
        "Bearer x",
        "Basic",
        "Basic !",
        _basic("game"),
        _basic(":x"),
        _basic("game:"),
        _basic("a:b:c"),
    ):
        with pytest.raises(OAuthError) as refused:
            parse_basic(bad)
        assert (refused.value.error, refused.value.status) == ("invalid_client", 401)


def test_clients_that_cannot_work_are_refused_without_quoting_hashes() -> None:
    """Bad ids, hashes, costs and scopes."""
    assert parse_clients(json.dumps({"game": {"hash": HASH, "scopes": ["admin"]}}))["game"].scopes == {"admin"}
    cases: list[Any] = [
        [],
        {"a:b": {"hash": HASH, "scopes": []}},
        {"a": {"hash": "plain-secret", "scopes": []}},
        {"a": {"hash": HASH.replace("$1024$", "$1073741824$"), "scopes": []}},
        {"a": {"hash": HASH, "scopes": ["root"]}},
        {"a": {"hash": HASH}},
        {"a": None},
    ]
    for bad in cases:
        with pytest.raises(ValueError, match="client") as refused:
            parse_clients(json.dumps(bad))
        assert HASH.rpartition("$")[2] not in str(refused.value)
        assert "plain-secret" not in str(refused.value)


def test_the_first_private_key_signs_and_only_public_halves_are_published() -> None:
    """The published set holds what the operator publishes and the signer, each once, without private parts."""
    old, new = _private("old"), _private("new")
    signing = parse_private_keys(json.dumps({"keys": [old, new]}), "EdDSA")
    assert signing.kid == "old"
    published = public_jwks(signing, {"keys": [{**new, "note": "x"}]})
    assert [key["kid"] for key in published["keys"]] == ["new", "old"]
    assert not any("d" in key for key in published["keys"])


def test_key_sets_that_cannot_sign_are_refused_without_quoting_them() -> None:
    """No key, no kid, only a public key, another algorithm, no JSON."""
    private = _private("k")
    public = {name: value for name, value in private.items() if name != "d"}
    nameless = {name: value for name, value in private.items() if name != "kid"}
    for text in ("", "{}", '{"keys":[]}', json.dumps({"keys": [public]}), json.dumps({"keys": [nameless]})):
        with pytest.raises(ValueError, match="PODIUM_JWT_KEYS") as refused:
            parse_private_keys(text, "EdDSA")
        assert private["d"] not in str(refused.value)
    with pytest.raises(ValueError, match="ES256"):
        parse_private_keys(json.dumps({"keys": [private]}), "ES256")
