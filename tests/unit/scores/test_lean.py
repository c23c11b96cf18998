"""The short way: it takes the usual correct request, and nothing that the long way would refuse or read otherwise."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.common import signing
from podium.common.rules import Action, Board
from podium.common.security_state import SecurityState
from podium.common.settings import JwtSettings
from podium.common.tokens import TokenVerifier, make_verifier, parse_bearer
from podium.scores.domain import Update as ScoreUpdate
from podium.scores.domain_body import parse_body
from podium.scores.domain_rules import Rules
from podium.scores.gate import SCOPE
from podium.scores.lean import PATH, Recognizer
from podium.scores.nonces import nonce_key
from tests.integration.scores.support import AUDIENCE, ISSUER, KEYS, jwks, open_session
from tests.support.client import Session, Update, body_of, signed_headers

RULES = Rules([Board(name="default")], [Action(type="win", points=10)], [])
Headers = Sequence[tuple[bytes, bytes]]


class World:
    """A recognizer and what it consults."""

    def __init__(self, *, samples: bool = False) -> None:
        self.security = SecurityState()
        self.security.loaded.set()
        settings = JwtSettings(issuer=ISSUER, audience=AUDIENCE, jwks=jwks(), jwks_file=None)
        self.verifier: TokenVerifier = make_verifier(settings, self.security.is_revoked)
        self.recognizer = Recognizer(self.verifier, KEYS, self.security, RULES, samples=samples)

    def recognise(self, headers: Headers, body: bytes) -> ScoreUpdate | None:
        found = self.recognizer.recognise(headers, body, ("192.0.2.1", 1234))
        return None if found is None else found[0]


@cache
def world() -> World:
    return World()


@cache
def session() -> Session:
    return open_session("ann")


def request(
    update: Update | None = None, of: Session | None = None, **extra: str
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers, as the parser gives them, and body of a correct update."""
    update = update or Update.of("win", action_id="a1")
    headers = signed_headers(of or session(), update) | {"content-length": str(len(update.body)), "host": "podium"}
    headers |= {name.replace("_", "-"): value for name, value in extra.items()}
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()], update.body


def the_long_way(headers: Headers, body: bytes) -> tuple[str, str, str, bytes]:
    """What the route's checks make of a request: user, actionId, metadata and the nonce's key. Raises for a fault."""

    def joined(name: bytes) -> str:
        return ", ".join(value.decode("latin-1") for other, value in headers if other == name)

    assert sum(name == b"authorization" for name, _ in headers) == 1
    assert joined(b"content-type").lower().replace(" ", "") in {"application/json", "application/json;charset=utf-8"}
    claims = world().verifier.verify(parse_bearer(joined(b"authorization")))
    assert SCOPE in claims.scope
    params = signing.verify_request(
        method="POST",
        path=PATH,
        authorization=joined(b"authorization"),
        content_digest_header=joined(b"content-digest"),
        signature_input_header=joined(b"signature-input"),
        signature_header=joined(b"signature"),
        keys=KEYS,
        sid=claims.sid,
        now=time.time(),
    )
    signing.verify_content_digest(joined(b"content-digest"), body)
    parsed = parse_body(body)
    return claims.sub, parsed.action_id, parsed.metadata, nonce_key(params.keyid.encode(), params.nonce.encode())


def test_a_usual_request_goes_the_short_way() -> None:
    """All that a correct request says arrives, and the nonce is still to be spent."""
    headers, body = request(user_agent="game/1.0", x_podium_client_ip="::ffff:203.0.113.9", traceparent=TRACEPARENT)
    update = world().recognise(headers, body)
    assert update is not None
    assert (update.user_id, update.username, update.action_id, update.action_type) == (
        "ann",
        "name of ann",
        "a1",
        "win",
    )
    assert (update.ip_address, update.device_info, update.trace_id) == ("203.0.113.9", "game/1.0", "ab" * 16)
    assert update.traceparent is None
    assert (update.user_id, update.action_id, update.metadata, update.nonce) == the_long_way(headers, body)


TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-00"
edits = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 400), st.sampled_from(list(b'"\\;=:, \t()aZ019._-/+\x00\x80\xc3'))),
    max_size=2,
)


@given(edits, st.integers(0, 40), st.booleans())
def test_the_short_way_lets_nothing_pass_that_the_long_way_refuses(
    changes: list[tuple[int, int, int]], fault: int, doubled: bool
) -> None:
    """Whatever is done to a correct request: recognised only if the long way accepts it, and read as it reads it."""
    headers, body = request()
    if fault < len(headers):
        headers = [*headers, headers[fault]] if doubled else [*headers[:fault], *headers[fault + 1 :]]
    for target, position, byte in changes:
        if target >= len(headers):
            body = body[: position % len(body)] + bytes([byte]) + body[position % len(body) + 1 :]
        else:
            name, value = headers[target]
            at = position % len(value)
            headers[target] = name, value[:at] + bytes([byte]) + value[at + 1 :]
    update = world().recognise(headers, body)
    if update is not None:
        assert (update.user_id, update.action_id, update.metadata, update.nonce) == the_long_way(headers, body)


def changed(**changes: Any) -> Update:
    return replace(Update.of(), **changes)


@pytest.mark.parametrize(
    "update",
    [
        changed(created=int(time.time()) - 400),
        changed(created=int(time.time()) + 3600),
        changed(nonce="n" * 129),
        changed(nonce=""),
        changed(label="sig2"),
        changed(algorithm="hmac-sha512"),
        changed(covered=("@method", "@path", "content-digest")),
        changed(method="PUT"),
        changed(path="/api/v1/scores/update/"),
        changed(content_type="text/plain"),
        changed(digest="sha-256=:AAAA:"),
        changed(body=b"{"),
        changed(body=b" " * (16 * 1024 + 1)),
    ],
)
def test_faults_are_left_to_the_long_way(update: Update) -> None:
    """Nothing is decided here about what is wrong."""
    assert world().recognise(*request(update)) is None


@pytest.mark.parametrize(
    "claims",
    [{"exp": 1_700_000_000}, {"aud": "other"}, {"scope": "scoreboard:read"}, {"sub": "arcade"}, {"nbf": 2_000_000_000}],
)
def test_tokens_that_are_not_right_are_left_to_the_long_way(claims: dict[str, Any]) -> None:
    """Expired, foreign, without the scope, of the client itself, or not valid yet."""
    assert world().recognise(*request(of=open_session(**claims))) is None


def test_a_known_token_is_still_looked_at() -> None:
    """Expiry, revocation and restriction hold for tokens that were recognised before, and so does a withdrawn key."""
    mine, gina = World(), open_session("gina")
    assert mine.recognise(*request(of=gina)) is not None
    mine.security.apply("restricted.Z2luYQ", b'{"kind":"ban","until":null}')
    assert mine.recognise(*request(of=gina)) is None
    mine.security.apply("restricted.Z2luYQ", None)
    assert mine.recognise(*request(of=gina)) is not None
    mine.security.apply(f"revoked.{gina.claims['sid']}", b'{"exp":9999999999}')
    assert mine.recognise(*request(of=gina)) is None
    short = open_session("hal", exp=int(time.time()) + 1)
    now = time.time()
    mine.recognizer._clock = lambda: now
    assert mine.recognise(*request(of=short)) is not None
    mine.recognizer._clock = lambda: now + 1
    assert mine.recognise(*request(of=short)) is None


def test_a_key_of_another_session_is_foreign() -> None:
    """Even one that is well known, and of the same user."""
    one, other = open_session("ian"), open_session("ian")
    assert world().recognise(*request(of=other)) is not None
    mixed = Session("ian", one.access_token, "", other.key_id, other.key, 300, one.scope)
    assert world().recognise(*request(of=mixed)) is None


def test_traced_requests_go_the_long_way() -> None:
    """It makes the spans: of sampled traces, and where this service decides, of all that are in no trace yet."""
    assert world().recognise(*request(traceparent=TRACEPARENT[:-1] + "1")) is None
    assert world().recognise(*request(traceparent="nonsense")) is None
    assert World(samples=True).recognise(*request()) is None
    assert World(samples=True).recognise(*request(traceparent=TRACEPARENT)) is not None


def test_the_body_is_what_was_signed() -> None:
    """Another body under the same headers is not recognised."""
    headers, _ = request()
    assert world().recognise(headers, body_of("win", action_id="a2")) is None


def test_nothing_is_recognised_before_revocations_are_known() -> None:
    """Whether a session was revoked nobody can tell then; the usual way answers 503."""
    fresh = World()
    fresh.security.loaded.clear()
    headers, body = request()
    assert fresh.recognise(headers, body) is None
    fresh.security.loaded.set()
    assert fresh.recognise(headers, body) is not None
