"""The short way of a score update that is right: recognised in one go, without a request object, a task or a span.

Only requests in the usual form pass here, and only if every check that can be made at once is passed. Whatever else a
request is (faulty, unusual, sampled for a trace, of a restricted user) ``recognise`` gives None for, before anything
has been done; then the route in ``podium.scores.routes`` looks at it as if nothing had been. So there is one place
that says what is wrong with a request, and this one cannot let pass what that one refuses: it accepts one spelling of
each thing, where both read the same. Decision record 9 has the reasons.
"""

import hashlib
import hmac
import random
import re
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from podium.common.client_address import HEADER as CLIENT_HEADER
from podium.common.client_address import normal_address
from podium.common.problems import Problem
from podium.common.security_state import SecurityState
from podium.common.signing import CANONICAL_SIGNATURE_INPUT, MAX_CLOCK_SKEW_SECONDS, SigningKeys
from podium.common.tokens import CACHE_TOKENS, Claims, TokenVerifier, parse_bearer
from podium.scores.domain import Update
from podium.scores.domain_body import MAX_BODY_BYTES, MalformedBody, parse_body
from podium.scores.domain_rules import Rules
from podium.scores.gate import MAX_DEVICE_CHARACTERS, SCOPE, device_info
from podium.scores.nonces import nonce_key

PATH: Final = "/api/v1/scores/update"

_MEDIA_TYPES: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
_UNSAMPLED: Final = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-00")
_BASE_START: Final = f'"@method": POST\n"@path": {PATH}\n"content-digest": '.encode()

_device = lru_cache(maxsize=4096)(lambda agent: device_info(agent.decode("latin-1")))
"""By the first ``MAX_DEVICE_CHARACTERS`` of the header, so that what is kept is small."""


class Known:
    """A token that was verified, and the signing keys of its session by their ids."""

    __slots__ = ("claims", "keys")

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self.keys: dict[bytes, bytes] = {}


class Recognizer:
    """Recognises correct updates. ``samples`` says whether requests without a trace of their own may start one."""

    def __init__(
        self,
        verifier: TokenVerifier,
        keys: SigningKeys,
        security: SecurityState,
        rules: Rules,
        *,
        samples: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._keys = keys
        self._security = security
        self._rules = rules
        self._samples = samples
        self._clock = clock
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._known_under: object = None

    def recognise(
        self, headers: Sequence[tuple[bytes, bytes]], body: bytes, peer: tuple[str, int] | None
    ) -> tuple[Update, Claims] | None:
        """The update that a ``POST`` to ``PATH`` carries, its nonce still to be spent; None to have it looked at
        closely. Header names are in lower case."""
        fields = dict(headers)
        if len(fields) != len(headers) or len(body) > MAX_BODY_BYTES or not self._security.loaded.is_set():
            return None
        get = fields.get
        if get(b"content-type") not in _MEDIA_TYPES or b"content-encoding" in fields:
            return None
        trace_id = self._unsampled_trace(fields)
        if trace_id is None:
            return None
        authorization = get(b"authorization", b"")
        now = self._clock()
        known = self._authenticate(authorization)
        if known is None:
            return None
        claims = known.claims
        if claims.exp <= now or self._security.is_revoked(claims.sid) or self._security.is_restricted(claims.sub):
            return None
        digest = hashlib.sha256(body).digest()
        content_digest = get(b"content-digest", b"")
        if content_digest != b"sha-256=:" + b64encode(digest) + b":":
            return None
        match = CANONICAL_SIGNATURE_INPUT.fullmatch(get(b"signature-input", b""))
        if match is None:
            return None
        params, created, nonce, keyid = match.groups()
        if abs(now - int(created)) > MAX_CLOCK_SKEW_SECONDS:
            return None
        key = known.keys.get(keyid) or self._signing_key(known, keyid)
        if key is None:
            return None
        base = b"".join(
            (
                *(_BASE_START, content_digest, b'\n"authorization": ', authorization),
                *(b'\n"@signature-params": ', params),
            )
        )
        signature = get(b"signature", b"")
        if not hmac.compare_digest(b"sig1=:" + b64encode(hmac.digest(key, base, "sha256")) + b":", signature):
            return None
        try:
            parsed = parse_body(body)
        except MalformedBody:
            return None
        client = get(CLIENT_HEADER)
        agent = get(b"user-agent")
        update = Update(
            claims.sub,
            claims.username,
            parsed.action_id,
            parsed.action_type,
            parsed.timestamp,
            parsed.metadata,
            digest,
            self._rules.assess(parsed.action_type, parsed.data),
            normal_address(client.decode("latin-1") if client else peer[0] if peer else ""),
            _device(agent[:MAX_DEVICE_CHARACTERS]) if agent else None,
            signature.decode("ascii"),
            None,
            trace_id,
            nonce_key(keyid, nonce),
        )
        return update, claims

    def _unsampled_trace(self, fields: Mapping[bytes, bytes]) -> str | None:
        """The id of the request's trace where nothing of it is recorded."""
        traceparent = fields.get(b"traceparent")
        if traceparent is None:
            return None if self._samples else f"{random.getrandbits(128):032x}"
        match = _UNSAMPLED.fullmatch(traceparent)
        return match[1].decode("ascii") if match else None

    def _authenticate(self, authorization: bytes) -> Known | None:
        """The token in this header, verified now or before; its expiry and revocation are not looked at."""
        if self._known_under is not self._verifier.trusted_keys():  # a key may have been withdrawn
            self._known.clear()
            self._known_under = self._verifier.trusted_keys()
        known = self._known.get(authorization)
        if known is not None:
            return known
        if not authorization.startswith(b"Bearer "):
            return None
        text = authorization.decode("latin-1")
        try:
            token = parse_bearer(text)
            claims = self._verifier.verify(token)
        except Problem:
            return None
        if text != f"Bearer {token}" or SCOPE not in claims.scope or claims.is_client:
            return None
        known = self._known[authorization] = Known(claims)
        if len(self._known) > CACHE_TOKENS:
            self._known.popitem(last=False)
        return known

    def _signing_key(self, known: Known, keyid: bytes) -> bytes | None:
        text = keyid.decode("ascii")
        key: bytes | None = self._keys.key_for(text) if text.partition(".")[2] == known.claims.sid else None
        if key is not None:
            known.keys[keyid] = key
        return key
