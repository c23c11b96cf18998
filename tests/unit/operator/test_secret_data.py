"""Secrets: made once, derived from others, or read from the user's own."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import jwt
import pytest

from podium_operator import secret_data
from podium_operator.spec import Client

GAME = Client.model_validate({"name": "game", "secretRef": {"name": "s"}, "scopes": ["scores:write"]})


def test_what_exists_is_never_overwritten() -> None:
    """Only missing keys are made; what the Secret holds counts more than the copy."""
    kept = secret_data.completed("postgres", {"password": "mine", "own": "x"}, {"postgres.password": "older"})
    assert (kept["password"], kept["own"]) == ("mine", "x")
    assert kept["superuserPassword"]
    assert secret_data.completed("postgres", kept, {}) == kept


@pytest.mark.parametrize("left", [None, {}, {"password": ""}])
def test_what_is_lost_comes_from_the_copy(left: dict[str, str] | None) -> None:
    """A Secret that is gone, or has lost its value, has the same value again."""
    before = secret_data.completed("nats", None, {})
    copy = secret_data.copied({"nats": before})
    assert secret_data.completed("nats", left, copy) == before


def test_the_copy_holds_all_that_is_generated() -> None:
    """Every Secret can be made again from the copy alone, under keys that a Secret may have."""
    stored = secret_data.generated()
    copy = secret_data.copied(stored)
    assert {suffix: secret_data.completed(suffix, None, copy) for suffix in secret_data.GENERATED} == stored
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]+", name) for name in copy)


def test_two_scoreboards_never_share_a_secret() -> None:
    """Every value is random."""
    first, second = secret_data.generated(), secret_data.generated()
    values = [set(part.values()) for made in (first, second) for part in made.values()]
    assert sum(map(len, values)) == len(set().union(*values))


def test_public_keys_verify_what_private_keys_sign() -> None:
    """The JWK Sets are standard ones: PyJWT signs with the one and verifies with the other."""
    private = secret_data.generated()["jwt"]["keys.json"]
    public = secret_data.public_keys(private)
    assert '"d"' not in public
    key = json.loads(private)["keys"][0]
    token = jwt.encode({"sub": "u"}, jwt.PyJWK(key).key, algorithm="EdDSA", headers={"kid": key["kid"]})
    assert jwt.decode(token, jwt.PyJWKSet.from_json(public)[key["kid"]].key, algorithms=["EdDSA"]) == {"sub": "u"}


def test_the_hash_of_a_client_secret_has_the_documented_form() -> None:
    """scrypt$n$r$p$salt$hash, checked with the standard library's scrypt."""
    kind, n, r, p, salt, digest = secret_data.hashed("open sesame").split("$")
    plain = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (salt, digest)]
    again = hashlib.scrypt(b"open sesame", salt=plain[0], n=int(n), r=int(r), p=int(p), maxmem=2**26, dklen=32)
    assert (kind, again) == ("scrypt", plain[1])


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (None, "does not exist"),
        ({}, "no key clientSecret"),
        ({"clientSecret": "x", "clientId": "y"}, "another clientId"),
    ],
)
def test_a_client_secret_that_cannot_be_used_says_what_to_do(data: dict[str, str] | None, part: str) -> None:
    """The sentence names the client and the Secret."""
    with pytest.raises(secret_data.ClientSecretProblem, match=f"client game: Secret s .*{part}"):
        secret_data.client_secret(GAME, data)


def test_client_id_may_be_left_out() -> None:
    """The name in the spec is the id."""
    assert secret_data.client_secret(GAME, {"clientSecret": "x"}) == "x"
