"""Who may report a score: token, scope, restriction, signature, digest and nonce, in the contract's order."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from opentelemetry import trace
from starlette.requests import Request

from podium.common import signing
from podium.common.client_address import client_ip
from podium.common.problems import Problem, unauthorized
from podium.common.security_events import SecurityEvents
from podium.common.security_state import SecurityState
from podium.common.tokens import Claims, TokenVerifier, parse_bearer, require_scope
from podium.scores.answers import REPLAYED_NONCE, refusal_problem
from podium.scores.domain import restriction_refusal
from podium.scores.domain_limits import SECOND
from podium.scores.nonces import NonceStore, nonce_key

SCOPE = "scores:write"
"""Scope that an update needs."""

MAX_DEVICE_CHARACTERS = 256
"""How much of the User-Agent is kept, in characters."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller, and what the audit log keeps of the request."""

    claims: Claims
    ip_address: str
    device_info: str | None
    request_signature: str | None


class Gate:
    """Lets genuine requests pass; raises the Problem of the first check that fails."""

    def __init__(
        self,
        verifier: TokenVerifier,
        keys: signing.SigningKeys,
        security: SecurityState,
        nonces: NonceStore,
        events: SecurityEvents,
        *,
        signing_required: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._keys = keys
        self._security = security
        self._nonces = nonces
        self._events = events
        self._signing_required = signing_required
        self._clock = clock

    async def admit(self, request: Request, body: bytes) -> Caller:
        """Check a request with its whole body. Raises Problem."""
        authorization = _joined(request, "authorization")
        claims = self._authenticate(request, authorization)
        address = client_ip(request.scope)
        self._check_restriction(claims, address)
        try:
            params = self._verify_signature(request, authorization or "", claims)
        except signing.SignatureInvalid as error:
            self._report("bad-signature", claims, address, str(error))
            raise unauthorized("signature-invalid", str(error)) from error
        digest = _joined(request, "content-digest")
        if digest is not None:
            try:
                signing.verify_content_digest(digest, body)
            except signing.DigestMismatch as error:
                raise Problem("digest-mismatch", 400, str(error)) from error
        if params is not None:
            key = nonce_key(params.keyid.encode(), params.nonce.encode())
            if not await self._nonces.spend(key):
                self._report("replayed-nonce", claims, address, "a nonce was sent twice")
                raise refusal_problem(REPLAYED_NONCE)
        return Caller(claims, address, device_info(request.headers.get("user-agent")), _joined(request, "signature"))

    def _authenticate(self, request: Request, authorization: str | None) -> Claims:
        if len(request.headers.getlist("authorization")) > 1:
            raise unauthorized("token-invalid", "Authorization was sent more than once")
        claims = self._verifier.verify(parse_bearer(authorization))
        require_scope(claims, SCOPE)
        if claims.is_client:
            raise Problem("scope-missing", 403, "a client's own token speaks for no user; open a session for one")
        return claims

    def _check_restriction(self, claims: Claims, address: str) -> None:
        restriction = self._security.restriction(claims.sub)
        if restriction is None or restriction.kind not in {"ban", "block"}:
            return
        until = None if restriction.until is None else round(restriction.until * SECOND)
        refusal = restriction_refusal(restriction.kind, until)
        self.report_restricted(claims, address, refusal.detail)
        raise Problem(refusal.slug, 403, refusal.detail)

    def report_restricted(self, claims: Claims, address: str, detail: str) -> None:
        """Tell the security service that a banned or blocked user tried to report a score."""
        self._report("banned-attempt", claims, address, detail)

    def _verify_signature(self, request: Request, authorization: str, claims: Claims) -> signing.SignatureInput | None:
        signature_input = _joined(request, "signature-input")
        signature = _joined(request, "signature")
        if signature_input is None and signature is None and not self._signing_required:
            return None
        if signature_input is None or signature is None:
            _signature_missing()
        return signing.verify_request(
            method=request.method,
            path=request.scope["raw_path"].decode("latin-1"),
            authorization=authorization,
            content_digest_header=_joined(request, "content-digest"),
            signature_input_header=signature_input,
            signature_header=signature,
            keys=self._keys,
            sid=claims.sid,
            now=self._clock(),
        )

    def _report(self, kind: str, claims: Claims, address: str, detail: str) -> None:
        trace.get_current_span().set_attribute("podium.security_event", kind)
        self._events.report(
            kind,
            user_id=claims.sub,
            client_id=claims.client_id,
            sid=claims.sid,
            ip_address=address,
            detail=detail,
        )


def _signature_missing() -> NoReturn:
    raise unauthorized("signature-missing", "the request needs the headers Signature-Input and Signature")


def _joined(request: Request, name: str) -> str | None:
    """A header's value; lines of the same name are joined as RFC 9110, 5.3 has it. None where it is absent."""
    values = request.headers.getlist(name)
    return ", ".join(values) if values else None


def device_info(agent: str | None) -> str | None:
    """What is kept of a ``User-Agent``."""
    if not agent:
        return None
    return "".join(character for character in agent[:MAX_DEVICE_CHARACTERS] if character.isprintable())
