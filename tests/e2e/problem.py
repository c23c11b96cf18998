"""What every error of the interface has in common."""

import re
from typing import Any

import httpx


def check_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check an RFC 9457 problem document and return it."""
    assert answer.status_code == status, f"{answer.status_code}, not {status} {slug}: {answer.text}"
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"].endswith(f"/{slug}"), problem
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert re.fullmatch(r"[0-9a-f]{32}", problem["traceId"]), problem
    if status == httpx.codes.UNAUTHORIZED:
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith("Bearer") or not slug.startswith("token-"), challenge
    if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
        assert int(answer.headers["retry-after"]) >= 0
    return problem
