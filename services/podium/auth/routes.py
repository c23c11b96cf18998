"""The token endpoint, revocation, and the two well-known documents."""

import re
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from podium.auth.context import AuthContext
from podium.auth.domain import SCOPES, OAuthError, parse_form
from podium.auth.keys import public_jwks
from podium.auth.metrics import TOKEN_ERRORS
from podium.common.client_address import client_ip
from podium.common.problems import Problem, documented

MAX_FORM_BYTES: Final = 16 * 1024
"""Longest form read, in bytes."""

NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749, section 5.1."""

KEYS_MAX_AGE_SECONDS: Final = 60
"""How long a key set may be cached; a new key is published for longer than that before it signs."""

_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:[0-9]{1,5})?")

router = APIRouter(tags=["tokens"])


class SigningKeyDocument(BaseModel):
    """Key that signs the session's requests (RFC 9421)."""

    kid: str
    alg: str = Field(examples=["hmac-sha256"])
    k: str = Field(description="32 bytes, base64url without padding")


class TokenAnswer(BaseModel):
    """RFC 6749, section 5.1, and the session's signing key."""

    access_token: str = Field(description="JWT of type at+jwt (RFC 9068)")
    token_type: str = Field(examples=["Bearer"])
    expires_in: int = Field(description="seconds")
    refresh_token: str
    scope: str
    signing_key: SigningKeyDocument


class OAuthErrorDocument(BaseModel):
    """RFC 6749, section 5.2."""

    error: str = Field(examples=["invalid_request"])
    error_description: str


class Metadata(BaseModel):
    """RFC 8414, section 2."""

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    scopes_supported: list[str]
    response_types_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]


class KeySet(BaseModel):
    """RFC 7517: the public keys of access tokens."""

    keys: list[dict[str, Any]]


def _form_body(properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}}


_TOKEN_FORM: Final = _form_body(
    {
        "grant_type": {"type": "string", "enum": ["client_credentials", "refresh_token"]},
        "subject": {"type": "string", "maxLength": 128, "description": "user to open a session for; no colon"},
        "username": {"type": "string", "maxLength": 64, "description": "name to display; the subject by default"},
        "scope": {"type": "string", "description": "names separated by one space; a subset of the client's"},
        "refresh_token": {"type": "string"},
    },
    ["grant_type"],
)
_REVOKE_FORM: Final = _form_body(
    {"token": {"type": "string"}, "token_type_hint": {"type": "string"}},
    ["token"],
)
_OAUTH_ERROR: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/OAuthErrorDocument"}}}
_UNAVAILABLE: Final = documented((503, "database-unavailable"))


def oauth_error(error: OAuthError) -> Response:
    """An OAuth error as its answer (RFC 6749, section 5.2)."""
    TOKEN_ERRORS.labels(error.error).inc()
    headers = dict(NO_STORE)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="podium", charset="UTF-8"'
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    document = OAuthErrorDocument(error=error.error, error_description=error.description)
    return JSONResponse(document.model_dump(), status_code=error.status, headers=headers)


async def _read_form(request: Request) -> dict[str, str]:
    if request.url.query:
        raise OAuthError("invalid_request", "parameters belong in the body, not in the query")
    kind, _, parameter = request.headers.get("content-type", "").partition(";")
    charset = parameter.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/x-www-form-urlencoded" or charset not in {"", "charset=utf-8"}:
        raise OAuthError("invalid_request", "the body must be application/x-www-form-urlencoded")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise OAuthError("invalid_request", f"the body is longer than {MAX_FORM_BYTES} bytes", status=413)
    return parse_form(bytes(body))


def _context(request: Request) -> AuthContext:
    context: AuthContext = request.app.state.context
    return context


@router.post(
    "/api/v1/auth/token",
    operation_id="issueToken",
    summary="Open or refresh a session",
    response_model=TokenAnswer,
    responses={
        200: {"description": "The session's tokens and signing key; `Cache-Control: no-store`."},
        400: {
            "description": "`invalid_request`, `invalid_grant`, `invalid_scope` or `unsupported_grant_type`",
            "content": _OAUTH_ERROR,
        },
        401: {"description": "`invalid_client`, with `WWW-Authenticate: Basic`", "content": _OAUTH_ERROR},
        413: {"description": "`invalid_request`: the form is longer than 16 KiB", "content": _OAUTH_ERROR},
        429: {
            "description": "`invalid_client` after too many failures, or `rate-limited` by the gateway; `Retry-After`",
            "content": {**_OAUTH_ERROR, **documented((429, "rate-limited"))[429]["content"]},
        },
        **_UNAVAILABLE,
    },
    openapi_extra={"requestBody": _TOKEN_FORM, "security": [{"clientSecret": []}, {}]},
)
async def token(request: Request) -> Response:
    """`client_credentials` with HTTP Basic opens a session for the user `subject`, or for the client itself without
    one. `refresh_token` rotates a session's refresh token by possession: a used token works once more within 10 s and
    while its successor is unused; any other reuse ends the session."""
    context = _context(request)
    try:
        form = await _read_form(request)
        grant = form.get("grant_type")
        if grant is None:
            raise OAuthError("invalid_request", "grant_type is missing")
        ip = client_ip(request.scope)
        if grant == "client_credentials":
            if "client_secret" in form:
                raise OAuthError("invalid_request", "the client's secret belongs in HTTP Basic, not in the body")
            client = await context.authenticator.authenticate(request.headers.get("authorization"), ip)
            if form.get("client_id", client.client_id) != client.client_id:
                raise OAuthError("invalid_request", "client_id is not the authenticated client")
            answer = await context.sessions.open(client, form, context.authenticator.clients())
        elif grant == "refresh_token":
            answer = await context.sessions.refresh(form, ip)
        else:
            raise OAuthError("unsupported_grant_type", "the grant type is not supported")
    except OAuthError as error:
        return oauth_error(error)
    return JSONResponse(answer, headers=NO_STORE)


@router.post(
    "/api/v1/auth/revoke",
    operation_id="revokeToken",
    summary="End a session",
    response_class=Response,
    responses={
        200: {"description": "The session is over, or the token was not known."},
        400: {"description": "`invalid_request`", "content": _OAUTH_ERROR},
        413: {"description": "`invalid_request`: the form is longer than 16 KiB", "content": _OAUTH_ERROR},
        **_UNAVAILABLE,
    },
    openapi_extra={"requestBody": _REVOKE_FORM},
)
async def revoke(request: Request) -> Response:
    """RFC 7009, by possession. A refresh token and an access token both end their session: its tokens and its signing
    key are refused within a second."""
    context = _context(request)
    try:
        form = await _read_form(request)
        presented = form.get("token")
        if presented is None:
            raise OAuthError("invalid_request", "token is missing")
        await context.sessions.revoke(presented, context.verifier, client_ip(request.scope))
    except OAuthError as error:
        return oauth_error(error)
    return Response(status_code=200, headers=NO_STORE)


@router.get(
    "/.well-known/oauth-authorization-server",
    operation_id="authorizationServerMetadata",
    summary="Metadata of the authorization server",
    response_model=Metadata,
    responses=documented((400, "malformed-request")),
)
async def metadata(request: Request) -> Response:
    """RFC 8414. Endpoints are given under the address that the request came to."""
    base = _base_url(request)
    issuer = _context(request).policy.issuer
    document = Metadata(
        issuer=issuer,
        token_endpoint=f"{base}/api/v1/auth/token",
        revocation_endpoint=f"{base}/api/v1/auth/revoke",
        jwks_uri=f"{base}/.well-known/jwks.json",
        scopes_supported=list(SCOPES),
        response_types_supported=[],
        grant_types_supported=["client_credentials", "refresh_token"],
        token_endpoint_auth_methods_supported=["client_secret_basic", "none"],
        revocation_endpoint_auth_methods_supported=["none"],
    )
    return JSONResponse(document.model_dump(), headers={"Cache-Control": "no-cache", "Vary": "Host"})


class JwkSetResponse(JSONResponse):
    """A JWK Set under its own media type (RFC 7517, 8.5.2)."""

    media_type = "application/jwk-set+json"


@router.get(
    "/.well-known/jwks.json",
    operation_id="jsonWebKeySet",
    summary="Public keys of access tokens",
    response_class=JwkSetResponse,
    response_model=KeySet,
)
async def jwks(request: Request) -> Response:
    """RFC 7517. A key is published before it signs, and for as long as its tokens live."""
    context = _context(request)
    document = public_jwks(context.signing_set(), context.published_jwks())
    return JwkSetResponse(
        document,
        headers={"Cache-Control": f"public, max-age={KEYS_MAX_AGE_SECONDS}"},
    )


def _base_url(request: Request) -> str:
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise Problem("malformed-request", 400, "the Host header is malformed")
    forwarded = request.headers.get("x-forwarded-proto", request.url.scheme)
    return f"{'https' if forwarded == 'https' else 'http'}://{host}"
