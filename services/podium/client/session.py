"""Sessions and signed score updates for Python clients, on httpx.

``open_session`` is what a game's backend does with its client secret; the ``Session`` it gives may live in the game.
"""

import base64
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

import httpx

from podium.common.signing import sign_request

UPDATE_PATH = "/api/v1/scores/update"
OAUTH_PATH = "/api/v1/auth/token"
DEFAULT_SCOPE = "scores:write scoreboard:read"
RENEW_BEFORE_SECONDS = 30
"""An access token this close to its end is renewed before it is used."""


class PodiumError(Exception):
    """The service refused: ``status``, ``slug`` of the problem (or OAuth error code) and a sentence.

    ``retry_after`` is in seconds, None where the answer named no time.
    """

    def __init__(self, response: httpx.Response) -> None:
        try:
            document: dict[str, Any] = response.json()
        except ValueError:
            document = {}
        self.status = response.status_code
        self.slug = str(document.get("error") or document.get("type", "unknown").rsplit("/", 1)[-1])
        self.detail = str(document.get("detail") or document.get("error_description") or response.reason_phrase)
        retry_after = response.headers.get("Retry-After", "")
        self.retry_after = float(retry_after) if retry_after.isdigit() else None
        super().__init__(f"{self.status} {self.slug}: {self.detail}")


@dataclass
class _Grant:
    access_token: str
    refresh_token: str
    kid: str
    key: bytes
    expires_at: float

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Self:
        signing = answer["signing_key"]
        key = base64.urlsafe_b64decode(signing["k"] + "=" * (-len(signing["k"]) % 4))
        expires_at = time.monotonic() + float(answer["expires_in"])
        return cls(answer["access_token"], answer["refresh_token"], signing["kid"], key, expires_at)


class Session:
    """One user's session. Not for use by several tasks at once: a refresh token is good for one use."""

    def __init__(self, http: httpx.AsyncClient, answer: dict[str, Any]) -> None:
        self._http = http
        self._grant = _Grant.of(answer)

    async def access_token(self) -> str:
        """A token that is still good for a while; renewed by the refresh token when it is about to expire.

        Raises PodiumError where the session is over.
        """
        if self._grant.expires_at - time.monotonic() < RENEW_BEFORE_SECONDS:
            form = {"grant_type": "refresh_token", "refresh_token": self._grant.refresh_token}
            self._grant = _Grant.of(_checked(await self._http.post(OAUTH_PATH, data=form)))
        return self._grant.access_token

    async def update(self, action: str, data: Any = None, *, action_id: str | None = None) -> dict[str, Any]:
        """Report an action and get the new score.

        Give the same ``action_id`` and data again after a lost answer: the update still counts once. Note that the body
        carries the time of the call, so a repeat must go through ``send`` with the very same body. Raises PodiumError.
        """
        return await self.send(encode_update(action, data, action_id=action_id))

    async def send(self, body: bytes) -> dict[str, Any]:
        """Send an encoded update, signed anew. Raises PodiumError, or ``httpx.TransportError`` for a lost answer."""
        authorization = f"Bearer {await self.access_token()}"
        headers = sign_request(
            self._grant.key,
            self._grant.kid,
            method="POST",
            path=self._http.base_url.raw_path.rstrip(b"/").decode() + UPDATE_PATH,
            authorization=authorization,
            body=body,
        )
        headers |= {"Authorization": authorization, "Content-Type": "application/json"}
        return _checked(await self._http.post(UPDATE_PATH, content=body, headers=headers))


def encode_update(action: str, data: Any = None, *, action_id: str | None = None) -> bytes:
    """The body of a score update; ``action_id`` defaults to a new UUID, the time is now."""
    metadata = {
        "type": action,
        "timestamp": datetime.now(UTC).isoformat(),
        "additionalData": {} if data is None else data,
    }
    return json.dumps({"actionId": action_id or str(uuid4()), "actionMetadata": metadata}).encode()


async def open_session(
    http: httpx.AsyncClient,
    client_id: str,
    client_secret: str,
    *,
    subject: str,
    username: str,
    scope: str = DEFAULT_SCOPE,
) -> Session:
    """Open a session for the user ``subject`` with a backend's client secret. Raises PodiumError."""
    form = {"grant_type": "client_credentials", "subject": subject, "username": username, "scope": scope}
    answer = await http.post(OAUTH_PATH, data=form, auth=httpx.BasicAuth(client_id, client_secret))
    return Session(http, _checked(answer))


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise PodiumError(response)
    answer: dict[str, Any] = response.json()
    return answer
