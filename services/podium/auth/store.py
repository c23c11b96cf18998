"""Sessions and refresh tokens in PostgreSQL. Every decision about a family is taken under its session's row lock."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from podium.auth.domain import RefreshToken, Session
from podium.common.database import outage_mapped

SESSION_KEPT_SECONDS: Final = 3600
"""How long an ended session's rows stay after its end, so that a late reuse is still recognised as such."""

_OPEN = text(
    """
    WITH opened AS (
        INSERT INTO session (sid, client_id, user_id, username, scope, created_at, expires_at)
        SELECT :sid, :client_id, :user_id, :username, :scope, now(), now() + make_interval(secs => :ttl)
        RETURNING sid, expires_at
    ), first AS (
        INSERT INTO refresh_token (token_sha256, sid) SELECT :token, sid FROM opened
    )
    SELECT expires_at, now() FROM opened
    """
)
_SESSION = text(
    """
    SELECT sid, client_id, user_id, username, scope, expires_at, revoked_at FROM session
    WHERE sid = (SELECT sid FROM refresh_token WHERE token_sha256 = :token) FOR UPDATE
    """
)
_TOKEN = text(
    "SELECT used_at, successor_sha256, revoked_at, clock_timestamp() FROM refresh_token WHERE token_sha256 = :token"
)
_ADD = text("INSERT INTO refresh_token (token_sha256, sid, created_at) VALUES (:token, :sid, :now)")
_USE = text("UPDATE refresh_token SET used_at = :now, successor_sha256 = :successor WHERE token_sha256 = :token")
_CLOSE = text("UPDATE refresh_token SET revoked_at = :now, successor_sha256 = :successor WHERE token_sha256 = :token")
_REVOKE_TOKEN = text("UPDATE refresh_token SET revoked_at = :now WHERE token_sha256 = :token")
_REVOKE_SESSION = text(
    "UPDATE session SET revoked_at = clock_timestamp() WHERE sid = :sid AND revoked_at IS NULL RETURNING sid"
)
_SID_OF = text("SELECT sid FROM refresh_token WHERE token_sha256 = :token")
_UNSENT = text("SELECT sid FROM session WHERE revoked_at IS NOT NULL AND NOT revocation_sent ORDER BY sid LIMIT :limit")
_SENT = text("UPDATE session SET revocation_sent = true WHERE sid = ANY(:sids)")
_RECENT = text("SELECT sid FROM session WHERE revoked_at > clock_timestamp() - make_interval(secs => :seconds)")
_ENDED = text(
    """
    SELECT sid, revoked_at IS NOT NULL FROM session WHERE expires_at < clock_timestamp() - make_interval(secs => :kept)
    ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)
_DROP_TOKENS = text("DELETE FROM refresh_token WHERE sid = ANY(:sids)")
_DROP_SESSIONS = text("DELETE FROM session WHERE sid = ANY(:sids)")


@dataclass(slots=True)
class Family:
    """A family of refresh tokens, locked: nobody else decides about it until the block is left.

    ``now`` is the primary's clock, read under the lock.
    """

    session: Session
    token: RefreshToken
    successor: RefreshToken | None
    now: datetime
    _connection: AsyncConnection
    _hash: bytes

    async def rotate(self, new: bytes) -> None:
        """Mark the token used and add its successor."""
        await self._add(new)
        await self._connection.execute(_USE, {"now": self.now, "successor": new, "token": self._hash})

    async def replace_successor(self, new: bytes) -> None:
        """Revoke the unused successor, close the token for good and add another successor."""
        await self._connection.execute(_REVOKE_TOKEN, {"now": self.now, "token": self.token.successor})
        await self._add(new)
        await self._connection.execute(_CLOSE, {"now": self.now, "successor": new, "token": self._hash})

    async def revoke(self) -> None:
        """End the session."""
        await self._connection.execute(_REVOKE_SESSION, {"sid": self.session.sid})

    async def _add(self, new: bytes) -> None:
        await self._connection.execute(_ADD, {"token": new, "sid": self.session.sid, "now": self.now})


class SessionStore:
    """Raises StoreUnavailable from every method while PostgreSQL is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def open(
        self, *, sid: str, client_id: str, user_id: str, username: str, scope: str, ttl: int, token: bytes
    ) -> tuple[Session, datetime]:
        """Begin a session of ``ttl`` seconds with its first refresh token; returns it and the primary's clock."""
        values: dict[str, Any] = {
            "sid": sid, "client_id": client_id, "user_id": user_id, "username": username, "scope": scope,
            "ttl": float(ttl), "token": token,
        }  # fmt: skip
        async with outage_mapped("session"), self._engine.begin() as connection:
            expires_at, now = (await connection.execute(_OPEN, values)).one()
        return Session(sid, client_id, user_id, username, scope, expires_at), now

    @asynccontextmanager
    async def family(self, token: bytes) -> AsyncIterator[Family | None]:
        """The locked family of a refresh token, None for an unknown one; leaving the block normally commits."""
        async with outage_mapped("session"), self._engine.begin() as connection:
            row = (await connection.execute(_SESSION, {"token": token})).one_or_none()
            found = await _token(connection, token) if row is not None else None
            if row is None or found is None:
                yield None
                return
            state, now = found
            successor = await _token(connection, state.successor) if state.successor else None
            yield Family(Session(*row), state, successor[0] if successor else None, now, connection, token)

    async def revoke(self, sid: str) -> bool:
        """End a session; false where it was over or never was."""
        async with outage_mapped("session"), self._engine.begin() as connection:
            return (await connection.execute(_REVOKE_SESSION, {"sid": sid})).one_or_none() is not None

    async def sid_of(self, token: bytes) -> str | None:
        """The session of a refresh token."""
        async with outage_mapped("session"), self._engine.connect() as connection:
            sid: str | None = (await connection.execute(_SID_OF, {"token": token})).scalar_one_or_none()
            return sid

    async def unsent_revocations(self, limit: int = 500) -> Sequence[str]:
        """Revoked sessions that not every pod may know of."""
        async with outage_mapped("session"), self._engine.connect() as connection:
            return (await connection.execute(_UNSENT, {"limit": limit})).scalars().all()

    async def mark_sent(self, sids: Sequence[str]) -> None:
        """Note that every pod can know of these revocations."""
        async with outage_mapped("session"), self._engine.begin() as connection:
            await connection.execute(_SENT, {"sids": list(sids)})

    async def recent_revocations(self, seconds: int) -> Sequence[str]:
        """Sessions revoked in the last ``seconds``: some of their access tokens may not have expired."""
        async with outage_mapped("session"), self._engine.connect() as connection:
            return (await connection.execute(_RECENT, {"seconds": float(seconds)})).scalars().all()

    async def drop_ended(self, limit: int = 500) -> Sequence[tuple[str, bool]]:
        """Delete sessions that ended an hour ago, with their tokens; returns their ids, and if they were revoked."""
        async with outage_mapped("session"), self._engine.begin() as connection:
            found = await connection.execute(_ENDED, {"kept": float(SESSION_KEPT_SECONDS), "limit": limit})
            ended = [(sid, revoked) for sid, revoked in found]
            sids = [sid for sid, _ in ended]
            if sids:
                await connection.execute(_DROP_TOKENS, {"sids": sids})
                await connection.execute(_DROP_SESSIONS, {"sids": sids})
        return ended

    async def ping(self) -> None:
        """Reach the primary once."""
        async with outage_mapped("ping"), self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))


async def _token(connection: AsyncConnection, token: bytes) -> tuple[RefreshToken, datetime] | None:
    row: Any = (await connection.execute(_TOKEN, {"token": token})).one_or_none()
    if row is None:
        return None
    return RefreshToken(used_at=row[0], successor=row[1], revoked_at=row[2]), row[3]
