"""The signing profile: strict, equal to the RFC's vectors, and understood by an independent library."""

import base64
import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from hypothesis import given
from hypothesis import strategies as st

from podium.common import signing

NOW = 1_800_000_000
SID = "c2Vzc2lvbi1vZi10aGUtdGVzdA"
MASTER = bytes(range(32))
KEYS = signing.SigningKeys({"1": MASTER}, "1", "podium")
KEY = KEYS.issue(SID)
PATH = "/api/v1/scores/update"
AUTHORIZATION = "Bearer abc.def.ghi"
BODY = b'{"hello": "world"}'


def signed(**changes: Any) -> dict[str, str]:
    arguments: dict[str, Any] = {
        "method": "POST", "path": PATH, "authorization": AUTHORIZATION, "body": BODY, "created": NOW, "nonce": "n1",
    }  # fmt: skip
    arguments.update(changes)
    kid = arguments.pop("kid", KEY.kid)
    return signing.sign_request(KEY.k, kid, **arguments)


def verify(headers: dict[str, str], **changes: Any) -> signing.SignatureInput:
    arguments: dict[str, Any] = {
        "method": "POST",
        "path": PATH,
        "authorization": AUTHORIZATION,
        "content_digest_header": headers.get("Content-Digest"),
        "signature_input_header": headers["Signature-Input"],
        "signature_header": headers["Signature"],
        "keys": KEYS,
        "sid": SID,
        "now": NOW,
    }
    arguments.update(changes)
    return signing.verify_request(**arguments)


def request(headers: dict[str, str]) -> SimpleNamespace:
    return SimpleNamespace(
        method="POST",
        url=f"https://example.org{PATH}",
        headers={"Authorization": AUTHORIZATION, **headers},
        body=BODY,
    )


class Resolver(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> bytes | None:
        return KEYS.key_for(key_id)

    def resolve_public_key(self, key_id: str) -> bytes | None:
        return KEYS.key_for(key_id)


def test_a_signed_request_verifies() -> None:
    """What a client signs, the server accepts, with the client's parameters."""
    params = verify(signed())
    assert (params.created, params.nonce, params.keyid) == (NOW, "n1", f"1.{SID}")


def test_hmac_and_base_equal_the_vector_of_rfc_9421_b_2_5() -> None:
    """The shared-secret example of RFC 9421, B.2.5, comes out byte for byte."""
    key = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
    base = (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n'
        '"@authority": example.com\n'
        '"content-type": application/json\n'
        '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    )
    expected = base64.b64decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=")
    assert signing.sign_base(key, base) == expected


def test_content_digest_equals_the_vector_of_rfc_9530() -> None:
    """The SHA-256 digest of RFC 9530, appendix D, comes out byte for byte."""
    assert signing.content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert signing.content_digest(BODY) == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


def test_key_derivation_is_stable() -> None:
    """Changing the derivation would invalidate every live session: this value may only change with its version."""
    assert signing.derive_key(MASTER, SID, "podium").hex() == EXPECTED_KEY


EXPECTED_KEY = "efc983f08f5275c61d8e4954d7801dd4e0089591a0954fe112e2834e5f2fe3f3"


def test_an_independent_library_accepts_our_signature() -> None:
    """http-message-signatures verifies what sign_request makes."""
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Resolver())
    headers = signed(created=int(datetime.datetime.now(datetime.UTC).timestamp()))
    (result,) = verifier.verify(request(headers))
    assert result.label == "sig1"
    assert list(result.covered_components)[:4] == [f'"{name}"' for name in signing.COVERED_COMPONENTS]


def test_we_accept_the_signature_of_an_independent_library() -> None:
    """What http-message-signatures signs in this profile, in its own order of parameters, verifies."""
    message = request({"Content-Digest": signing.content_digest(BODY)})
    HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Resolver()).sign(
        message,
        key_id=KEY.kid,
        created=datetime.datetime.fromtimestamp(NOW, datetime.UTC),
        nonce='a "quoted\\ nonce',
        label="sig1",
        covered_component_ids=signing.COVERED_COMPONENTS,
        use_existing_digest=True,
    )
    assert verify(message.headers).nonce == 'a "quoted\\ nonce'


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128))
def test_any_printable_nonce_survives(nonce: str) -> None:
    """Quoting and unquoting of nonces are inverse."""
    assert verify(signed(nonce=nonce)).nonce == nonce


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "/api/v1/scores/Update"},
        {"authorization": "Bearer other"},
        {"content_digest_header": signing.content_digest(b"other")},
        {"content_digest_header": None},
        {"sid": "another-session"},
        {"keys": signing.SigningKeys({"1": bytes(32)}, "1")},
        {"keys": signing.SigningKeys({"2": MASTER}, "2")},
        {"keys": signing.SigningKeys({"1": MASTER}, "1", "another issuer")},
        {"now": NOW + 301},
        {"now": NOW - 301},
        {"signature_header": "sig1=:AAAA:"},
        {"signature_header": "sig2=:AAAA:"},
        {"signature_header": "sig1=AAAA"},
        {"signature_header": "sig1=:A:"},
        {"signature_header": ""},
    ],
)
def test_anything_else_than_what_was_signed_is_refused(changes: dict[str, Any]) -> None:
    """Another method, path, token, digest, session, key or time: invalid."""
    with pytest.raises(signing.SignatureInvalid):
        verify(signed(), **changes)


def test_the_clock_may_be_off_by_exactly_the_bound() -> None:
    """300 s either way are accepted."""
    assert verify(signed(), now=NOW + 300).created == verify(signed(), now=NOW - 300).created


def resigned(params: str) -> dict[str, str]:
    """Headers with a right signature over other parameters."""
    digest = signing.content_digest(BODY)
    base = signing.signature_base("POST", PATH, digest, AUTHORIZATION, params)
    value = base64.b64encode(signing.sign_base(KEY.k, base)).decode()
    return {"Content-Digest": digest, "Signature-Input": f"sig1={params}", "Signature": f"sig1=:{value}:"}


COMPONENTS = '("@method" "@path" "content-digest" "authorization")'
REST = f'keyid="{KEY.kid}";alg="hmac-sha256"'


@pytest.mark.parametrize(
    "params",
    [
        f'("@method" "@path" "content-digest");created={NOW};nonce="n";{REST}',
        f'("@path" "@method" "content-digest" "authorization");created={NOW};nonce="n";{REST}',
        f'("@method" "@path" "content-digest" "authorization" "date");created={NOW};nonce="n";{REST}',
        f'{COMPONENTS};created="{NOW}";nonce="n";{REST}',
        f'{COMPONENTS};created={NOW};nonce="";{REST}',
        f'{COMPONENTS};created={NOW};nonce="{"n" * 129}";{REST}',
        f"{COMPONENTS};created={NOW};nonce=7;{REST}",
        f"{COMPONENTS};created={NOW};{REST}",
        f'{COMPONENTS};created={NOW};nonce="n";keyid="{KEY.kid}"',
        f'{COMPONENTS};created={NOW};nonce="n";keyid="{KEY.kid}";alg="hmac-sha512"',
        f'{COMPONENTS};created={NOW};nonce="n";{REST};expires={NOW + 1}',
        f'{COMPONENTS};created={NOW};created={NOW};nonce="n";{REST}',
        f'{COMPONENTS};created={NOW};nonce="n";{REST}, sig2=()',
        f'{COMPONENTS};created={NOW};nonce="n;{REST}',
        f'{COMPONENTS};created={NOW};nonce="n";keyid="1";alg="hmac-sha256"',
        f'{COMPONENTS};created={NOW};nonce="n";keyid="{SID}";alg="hmac-sha256"',
    ],
)
def test_a_right_signature_of_another_profile_is_refused(params: str) -> None:
    """Other components, parameters, types or lengths are invalid even when correctly signed."""
    with pytest.raises(signing.SignatureInvalid):
        verify(resigned(params))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha-256",
        "sha-256=",
        "sha-256=::",
        "sha-256=:AAAA:",
        "sha-512=:AAAA:",
        "md5=:AAAA:, sha-512=:AAAA:",
        f"{signing.content_digest(BODY)}, {signing.content_digest(BODY)}",
        signing.content_digest(BODY).upper(),
    ],
)
def test_a_wrong_or_ambiguous_digest_is_refused(header: str) -> None:
    """Missing, malformed, doubled or wrong digests are mismatches."""
    with pytest.raises(signing.DigestMismatch):
        signing.verify_content_digest(header, BODY)


def test_a_right_digest_may_stand_beside_others() -> None:
    """RFC 9530 lets a sender give several algorithms."""
    signing.verify_content_digest(f"sha-512=:AAAA:, {signing.content_digest(BODY)}", BODY)


def test_a_second_master_rotates() -> None:
    """After rotation old sessions still verify and new ones use the new master."""
    rotated = signing.SigningKeys({"1": MASTER, "2": bytes(32)}, "2")
    assert rotated.key_for(KEY.kid) == KEY.k
    assert rotated.issue(SID).kid == f"2.{SID}"
    assert rotated.issue(SID).k != KEY.k


@pytest.mark.parametrize("kid", ["", ".", "1", "1.", ".x", "9.x"])
def test_an_unknown_key_id_has_no_key(kid: str) -> None:
    """Ids without a known master or without a session give None."""
    assert KEYS.key_for(kid) is None


def test_ids_that_clients_make_up_are_not_kept() -> None:
    """They may be long, and as many as anyone likes."""
    keys = signing.SigningKeys({"1": MASTER}, "1")
    assert keys.key_for(f"{'x' * 10_000}.{SID}") is None
    assert keys._derive.cache_info().currsize == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"current":"2","keys":{"1":"' + "A" * 43 + '"}}',
        '{"current":"1","keys":{"1":"c2VjcmV0"}}',
        '{"current":"a.b","keys":{"a.b":"' + "A" * 43 + '"}}',
        '{"current":"1","keys":{"1":17}}',
    ],
)
def test_a_bad_master_is_refused_without_quoting_it(text: str) -> None:
    """Configuration errors are clear and do not leak keys."""
    with pytest.raises(ValueError, match="signing master") as error:
        signing.SigningKeys.parse(text)
    assert "c2VjcmV0" not in str(error.value)


def test_the_master_document_round_trips() -> None:
    """The documented form of PODIUM_SIGNING_MASTER is read, padding or not."""
    text = '{"current":"1","keys":{"1":"' + base64.urlsafe_b64encode(MASTER).rstrip(b"=").decode() + '"}}'
    assert signing.SigningKeys.parse(text).issue(SID) == KEY
    assert KEY.as_json()["alg"] == "hmac-sha256"
    assert base64.urlsafe_b64decode(KEY.as_json()["k"] + "=") == KEY.k
