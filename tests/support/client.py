"""A client of the public interface, written from the contract alone: it shares no code with the services.

Sessions are opened as a game's backend does; score updates are signed by RFC 9421 with a digest by RFC 9530.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx

UPDATE_PATH = "/api/v1/scores/update"
TOKEN_PATH = "/api/v1/auth/token"
COVERED = ("@method", "@path", "content-digest", "authorization")
"""What a score update's signature covers, in this order."""


@dataclass(frozen=True)
class Session:
    """An open session of one user: its tokens and the key that signs its updates."""

    user_id: str
    access_token: str
    refresh_token: str
    key_id: str
    key: bytes = field(repr=False)
    expires_in: int
    scope: str

    @classmethod
    def of(cls, user_id: str, answer: Mapping[str, Any]) -> "Session":
        """Read the token endpoint's answer."""
        signing_key = answer["signing_key"]
        assert signing_key["alg"] == "hmac-sha256"
        return cls(
            user_id,
            answer["access_token"],
            answer["refresh_token"],
            signing_key["kid"],
            unbase64url(signing_key["k"]),
            answer["expires_in"],
            answer["scope"],
        )

    @property
    def claims(self) -> dict[str, Any]:
        """The access token's claims, not verified."""
        claims: dict[str, Any] = json.loads(unbase64url(self.access_token.split(".")[1]))
        return claims


@dataclass(frozen=True)
class Update:
    """A score update before it is signed. Every field can be set wrong on purpose."""

    body: bytes
    created: int
    nonce: str
    method: str = "POST"
    path: str = UPDATE_PATH
    covered: Sequence[str] = COVERED
    algorithm: str = "hmac-sha256"
    label: str = "sig1"
    content_type: str | None = "application/json"
    digest: str | None = None
    """The Content-Digest to send; the body's own if None."""

    @classmethod
    def of(
        cls,
        action: str = "win",
        *,
        action_id: str | None = None,
        data: Any = None,
        timestamp: str | None = None,
    ) -> "Update":
        """A correct update: a new actionId and nonce, and the present time, unless given."""
        return cls(body_of(action, action_id=action_id, data=data, timestamp=timestamp), int(time.time()), new_nonce())

    def again(self) -> "Update":
        """The same body for a retry: signed anew, with a new nonce."""
        return replace(self, created=int(time.time()), nonce=new_nonce())


def body_of(
    action: str = "win", *, action_id: str | None = None, data: Any = None, timestamp: str | None = None
) -> bytes:
    """The body of a score update as the contract has it."""
    metadata = {"type": action, "timestamp": timestamp or now(), "additionalData": {} if data is None else data}
    action_id = str(uuid.uuid4()) if action_id is None else action_id
    return json.dumps({"actionId": action_id, "actionMetadata": metadata}).encode()


def now() -> str:
    """The present time by RFC 3339."""
    return datetime.now(UTC).isoformat()


def new_nonce() -> str:
    """A nonce that was never used."""
    return secrets.token_urlsafe(18)


def unbase64url(text: str) -> bytes:
    """Decode base64url with or without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def digest_of(body: bytes) -> str:
    """Content-Digest of a body (RFC 9530, SHA-256)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def signed_headers(session: Session, update: Update) -> dict[str, str]:
    """The headers of a signed update (RFC 9421)."""
    authorization = f"Bearer {session.access_token}"
    digest = update.digest or digest_of(update.body)
    values = {
        "@method": update.method,
        "@path": update.path,
        "content-digest": digest,
        "authorization": authorization,
        "@authority": "podium.test",
    }
    components = " ".join(f'"{name}"' for name in update.covered)
    parameters = (
        f"({components});created={update.created};"
        f'nonce="{update.nonce}";keyid="{session.key_id}";alg="{update.algorithm}"'
    )
    lines = [f'"{name}": {values[name]}' for name in update.covered]
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    signature = base64.b64encode(hmac.digest(session.key, base.encode(), "sha256")).decode()
    headers = {
        "authorization": authorization,
        "content-digest": digest,
        "signature-input": f"{update.label}={parameters}",
        "signature": f"{update.label}=:{signature}:",
    }
    return headers | ({"content-type": update.content_type} if update.content_type else {})


class Client:
    """Talks to one Podium at ``url`` as the OAuth client ``client_id``."""

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self.url = url
        self.client_id = client_id
        self._auth = httpx.BasicAuth(client_id, client_secret)
        self.http = httpx.AsyncClient(base_url=url, timeout=15)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def token(self, form: Mapping[str, str], *, auth: httpx.Auth | None = None) -> httpx.Response:
        """POST a form to the token endpoint as this client, or with other credentials."""
        return await self.http.post(TOKEN_PATH, data=dict(form), auth=auth or self._auth)

    async def open_session(
        self, user_id: str | None = None, *, username: str | None = None, scope: str = "scores:write scoreboard:read"
    ) -> Session:
        """Open a session of a user; of a new one if no id is given."""
        user_id = user_id or f"player-{secrets.token_hex(6)}"
        form = {"grant_type": "client_credentials", "subject": user_id, "username": username or user_id}
        answer = await self.token(form | {"scope": scope})
        assert answer.status_code == httpx.codes.OK, answer.text
        return Session.of(user_id, answer.json())

    async def own_token(self, scope: str) -> str:
        """An access token for the client itself."""
        answer = await self.token({"grant_type": "client_credentials", "scope": scope})
        assert answer.status_code == httpx.codes.OK, answer.text
        token: str = answer.json()["access_token"]
        return token

    async def refresh(self, refresh_token: str) -> httpx.Response:
        """Use a refresh token, by possession alone."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self.http.post(TOKEN_PATH, data=form)

    async def revoke(self, token: str) -> httpx.Response:
        """Revoke a token (RFC 7009)."""
        return await self.http.post("/api/v1/auth/revoke", data={"token": token})

    async def send(
        self,
        session: Session,
        update: Update,
        *,
        headers: Mapping[str, str | None] | None = None,
        query: str = "",
        sent_body: bytes | None = None,
    ) -> httpx.Response:
        """Sign and send an update.

        ``headers`` replaces headers after signing (None removes one), ``query`` is appended to the path as it is, and
        ``sent_body`` is sent in place of the body that was signed.
        """
        final: dict[str, str | None] = {**signed_headers(session, update), **(headers or {})}
        return await self.http.request(
            update.method,
            update.path + query,
            content=update.body if sent_body is None else sent_body,
            headers={name: value for name, value in final.items() if value is not None},
        )

    async def update(self, session: Session, action: str = "win", **fields: Any) -> httpx.Response:
        """Send a correct update; ``fields`` as for ``Update.of``."""
        return await self.send(session, Update.of(action, **fields))

    async def top(self, **query: Any) -> dict[str, Any]:
        """GET the scoreboard."""
        answer = await self.http.get("/api/v1/scoreboard", params=query)
        assert answer.status_code == httpx.codes.OK, answer.text
        body: dict[str, Any] = answer.json()
        return body
