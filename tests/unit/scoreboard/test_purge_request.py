"""Specification of the call that purges a CDN, form by form."""

import json
import time
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, InvalidSignature, algorithms

from podium.common.signing import verify_content_digest
from podium.scoreboard.projector.purge import target
from podium.scoreboard.projector.purge_request import Change, PurgeRequest, purge_request
from podium.scoreboard.settings import PurgeForm

URL = "https://edge.example:8443/purge?zone=1"
TOKEN = "a-token-that-only-we-and-the-edge-know"
CHANGE = Change("weekly", 7, 42)


def made(form: PurgeForm, url: str = URL) -> PurgeRequest:
    """The call in a form."""
    now = int(time.time())
    return purge_request(form, url, TOKEN, CHANGE, keyid="podium/games/arcade", created=now, nonce="n1")


@dataclass
class Received:
    """A request as a library for signatures wants it."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class OneKey(HTTPSignatureKeyResolver):
    """Knows the key of one Scoreboard."""

    def resolve_public_key(self, key_id: str) -> bytes:
        """The token, as the key."""
        assert key_id == "podium/games/arcade"
        return TOKEN.encode()

    resolve_private_key = resolve_public_key


def verify(received: Received) -> Any:
    """Verify with a library that knows nothing of Podium. Raises InvalidSignature."""
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=OneKey())
    (result,) = verifier.verify(received)
    return result


def test_a_signed_call_says_what_changed() -> None:
    """Keys in a header and in the body, with the newest (epoch, version)."""
    request = made("Signed")
    assert request.headers["Surrogate-Key"] == "scoreboard-weekly"
    assert json.loads(request.body) == {
        "surrogateKeys": ["scoreboard-weekly"],
        "board": "weekly",
        "epoch": 7,
        "version": 42,
    }


def test_a_library_verifies_the_signature() -> None:
    """RFC 9421 over method, address, digest and keys; the digest is that of the body (RFC 9530)."""
    request = made("Signed")
    result = verify(Received("POST", URL, dict(request.headers), request.body))
    assert set(result.covered_components) >= {'"@method"', '"@target-uri"', '"content-digest"', '"surrogate-key"'}
    verify_content_digest(request.headers["Content-Digest"], request.body)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"url": "https://edge.example:8443/purge?zone=2"},
        {"headers": {"Surrogate-Key": "scoreboard"}},
        {"headers": {"Content-Digest": "sha-256=:AAAA:"}},
    ],
    ids=["method", "address", "keys", "digest"],
)
def test_what_is_signed_cannot_be_changed(change: dict[str, Any]) -> None:
    """A call for one address, board or content is no call for another."""
    request = made("Signed")
    received = {"method": "POST", "url": URL, "headers": dict(request.headers), "body": request.body}
    headers = {**request.headers, **change.get("headers", {})}
    with pytest.raises(InvalidSignature):
        verify(Received(**{**received, **change, "headers": headers}))


def test_bearer_is_the_same_with_a_token() -> None:
    """RFC 6750, and no signature."""
    request = made("Bearer")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Surrogate-Key"] == "scoreboard-weekly"
    assert request.body == made("Signed").body
    assert "Signature" not in request.headers


def test_fastly_wants_its_own_header() -> None:
    """POST /service/ID/purge with Fastly-Key and Surrogate-Key, and nothing in the body."""
    assert made("Fastly") == PurgeRequest(
        {"Fastly-Key": TOKEN, "Surrogate-Key": "scoreboard-weekly", "Accept": "application/json"}, b""
    )


def test_cloudflare_wants_tags() -> None:
    """POST /client/v4/zones/ID/purge_cache with the tags in the body, and nothing else there."""
    request = made("Cloudflare")
    assert request.headers == {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    assert json.loads(request.body) == {"tags": ["scoreboard-weekly"]}


def test_a_key_is_never_sent() -> None:
    """A signature proves the key and does not tell it; the other forms tell the token to whom it belongs."""
    assert {form for form in get_args(PurgeForm) if TOKEN not in str(made(form))} == {"Signed"}


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://edge.example", "https://edge.example/"),
        ("https://EDGE.example:443/purge?zone=1", "https://edge.example/purge?zone=1"),
        ("http://varnish.edge:6081/purge", "http://varnish.edge:6081/purge"),
    ],
)
def test_the_signed_address_is_the_one_that_a_receiver_sees(url: str, normal: str) -> None:
    """RFC 3986, section 6.2.3."""
    assert str(target(url)) == normal
