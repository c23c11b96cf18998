"""FastAPI dependency of routes that ask for an access token with a scope."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from podium.common.tokens import Claims, TokenVerifier, bearer, require_scope

_scheme = HTTPBearer(
    auto_error=False, bearerFormat="JWT", scheme_name="accessToken", description="Access token of the token endpoint"
)


def authorized(scope: str) -> Callable[..., Awaitable[Claims]]:
    """A dependency that gives the claims of the request's token, or raises its TokenError.

    The app's composition puts the verifier into ``app.state.verifier``. No cache may keep what the route returns: some
    CDNs would keep it for others where nothing is said, whatever RFC 9111, section 3.5, says of Authorization.
    """

    async def check(
        request: Request,
        response: Response,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)] = None,
    ) -> Claims:
        verifier: TokenVerifier = request.app.state.verifier
        claims = verifier.verify(bearer(request.headers))
        require_scope(claims, scope)
        structlog.contextvars.bind_contextvars(user=claims.sub)
        response.headers["Cache-Control"] = "no-store"
        return claims

    return check
