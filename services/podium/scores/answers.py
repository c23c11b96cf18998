"""What is answered: each outcome of an update as a problem, or as the headers of a 200."""

import math
from functools import lru_cache

import structlog

from podium.common.problems import FieldError, Problem, StoreUnavailable, rate_limited, unauthorized, unavailable
from podium.scores.batcher import Overloaded
from podium.scores.domain_limits import SECOND, Limit, Standing
from podium.scores.domain_rules import Refusal

FORBIDDEN = frozenset({"user-banned", "blocked-by-anomaly"})
"""Slugs of refusals that the security service hears of."""

REPLAYED_NONCE = Refusal("replayed-nonce", "this nonce was used before; sign every request with a new one")

_log = structlog.get_logger("podium.scores")


def overloaded() -> Problem:
    """Too much is waiting already."""
    detail = "too many updates are waiting; nothing was counted"
    return Problem("dependency-unavailable", 503, detail, headers={"Retry-After": "1"})


def refusal_problem(refusal: Refusal) -> Problem:
    """The problem that a refusal is answered with."""
    if refusal.limit is not None:
        return rate_limited(
            refusal.detail,
            policy=refusal.limit.policy,
            limit=refusal.limit.count,
            window=refusal.limit.window / SECOND,
            retry_after=refusal.retry_after / SECOND,
        )
    if refusal is REPLAYED_NONCE:
        return unauthorized(refusal.slug, refusal.detail)
    errors = [FieldError(pointer=pointer, detail=detail) for pointer, detail in refusal.errors]
    status = 403 if refusal.slug in FORBIDDEN else 422
    return Problem(refusal.slug, status, refusal.detail, errors=errors)


def failure_problem(error: BaseException) -> Problem:
    """The problem of an update that could not be settled; what was not foreseen is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overloaded):
        return overloaded()
    if isinstance(error, StoreUnavailable):
        return unavailable(error.store)
    _log.error("request failed", error=type(error).__name__, exc_info=error)
    return Problem("internal-error", 500, "an unexpected error; the trace has more")


@lru_cache(maxsize=64)
def rate_limit_policy(limit: Limit) -> str:
    """``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers) of a limit."""
    return f'"{limit.policy}";q={limit.count};w={math.ceil(limit.window / SECOND)}'


def rate_limit(standing: Standing) -> str:
    """``RateLimit`` (draft-ietf-httpapi-ratelimit-headers) of a user after an accepted update."""
    return f'"{standing.limit.policy}";r={standing.remaining};t={-(-standing.reset // SECOND)}'
