"""Rules of the token endpoint: what a request must look like and what a refresh token may still do. Pure."""

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl

GRACE_SECONDS: Final = 10
"""How long a used refresh token works once more, so that a lost answer does not end a session."""

MAX_FORM_FIELDS: Final = 20
"""Parameters in one form."""

MAX_SUBJECT_CHARS: Final = 128
"""Characters of a user id; scores and rankings store it with every row."""

MAX_USERNAME_CHARS: Final = 64
"""Characters of a displayed name."""

SCOPES: Final = ("scores:write", "scoreboard:read", "analytics:read", "admin")
"""All scopes there are."""

USER_SCOPES: Final = frozenset({"scores:write", "scoreboard:read"})
"""What a user's session gets where no scope is asked for, as far as the client has it."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
"""RFC 6749, section 3.3."""

_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the rest of a line around: a name must not disguise its neighbours on a scoreboard."""


class OAuthError(Exception):
    """An error answer of RFC 6749, section 5.2 (or 401 and 429 for clients that fail to authenticate)."""

    def __init__(self, error: str, description: str, *, status: int = 400, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.retry_after = retry_after
        """Seconds."""


def parse_form(body: bytes) -> dict[str, str]:
    """The parameters of a form (RFC 6749, section 3.2): each at most once, empty ones as if they were left out.

    Raises OAuthError(invalid_request).
    """
    if not body:
        return {}
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError as error:
        raise OAuthError("invalid_request", "the form is malformed") from error
    form: dict[str, str] = {}
    for name, value in pairs:
        if name in form:
            raise OAuthError("invalid_request", "a parameter is repeated")
        form[name] = value
    return {name: value for name, value in form.items() if value}


def check_subject(subject: str, client_ids: Collection[str]) -> str:
    """A user id that a client may name. Raises OAuthError(invalid_request).

    ``:`` is kept for users of external issuers; a client's id would make the session a token of the client itself.
    """
    if len(subject) > MAX_SUBJECT_CHARS or not _is_plain(subject):
        raise OAuthError("invalid_request", f"subject must be 1 to {MAX_SUBJECT_CHARS} printable characters")
    if ":" in subject:
        raise OAuthError("invalid_request", "subject must not contain a colon")
    if "/" in subject or "\\" in subject or subject in {".", ".."}:
        # User ids stand in paths, and the gateway refuses escaped slashes and dot segments.
        raise OAuthError("invalid_request", "subject must not contain a slash, nor be a dot or two")
    if subject in client_ids:
        raise OAuthError("invalid_request", "subject must not be the id of a client")
    return subject


def check_username(username: str) -> str:
    """A name to display. Raises OAuthError(invalid_request)."""
    if len(username) > MAX_USERNAME_CHARS or not _is_plain(username):
        raise OAuthError("invalid_request", f"username must be 1 to {MAX_USERNAME_CHARS} printable characters")
    return username


def _is_plain(text: str) -> bool:
    if not text or text != text.strip():
        return False
    return not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _BIDI_CONTROLS for c in text)


def grant_scope(asked: str | None, allowed: Collection[str], default: Collection[str]) -> str:
    """The scope to grant: what was asked for, if all of it is allowed, else ``default`` as far as it is allowed.

    Raises OAuthError(invalid_scope).
    """
    if asked is None:
        granted = [name for name in SCOPES if name in allowed and name in default]
    else:
        if not _SCOPE.fullmatch(asked):
            raise OAuthError("invalid_scope", "the scope is malformed")
        names = set(asked.split(" "))
        if not names <= set(allowed):
            raise OAuthError("invalid_scope", "the scope goes beyond what may be granted")
        granted = [name for name in SCOPES if name in names]
    if not granted:
        raise OAuthError("invalid_scope", "there is no scope to grant")
    return " ".join(granted)


def new_sid() -> str:
    """A session id of 128 random bits; the signing key is derived from it."""
    return secrets.token_urlsafe(16)


def new_refresh_token() -> str:
    """A refresh token of 256 random bits."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """What is stored of a refresh token: its SHA-256. It has 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is stored. A client's own has ``user_id`` equal to ``client_id``."""

    sid: str
    client_id: str
    user_id: str
    username: str
    scope: str
    expires_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token of a family, by its hash."""

    used_at: datetime | None = None
    successor: bytes | None = None
    revoked_at: datetime | None = None


class Refresh(Enum):
    """What a presented refresh token leads to."""

    ROTATE = "mark it used and issue its successor"
    GRACE = "revoke its unused successor, close it for good and issue another"
    REUSE = "revoke the whole family"
    DEAD = "the session is over: refuse, nothing to do"


def decide_refresh(session: Session, token: RefreshToken, successor: RefreshToken | None, now: datetime) -> Refresh:
    """Judge a known refresh token at ``now``; all times by one clock.

    A token revoked within its family was either closed after its grace, or is a successor that was replaced: two
    parties hold the family, and nobody can tell which is the thief, so presenting it ends the family too.
    """
    if session.revoked_at is not None or session.expires_at <= now:
        return Refresh.DEAD
    if token.revoked_at is not None:
        return Refresh.REUSE
    if token.used_at is None:
        return Refresh.ROTATE
    fresh = now - token.used_at <= timedelta(seconds=GRACE_SECONDS)
    unused = successor is not None and successor.used_at is None and successor.revoked_at is None
    return Refresh.GRACE if fresh and unused else Refresh.REUSE


def access_lifetime(session: Session, ttl: int, now: datetime) -> int:
    """Seconds that an access token issued at ``now`` may live: never beyond its session."""
    return max(1, min(ttl, int((session.expires_at - now).total_seconds())))


def scopes_of(text: str) -> Sequence[str]:
    """A scope as its names."""
    return text.split(" ")
