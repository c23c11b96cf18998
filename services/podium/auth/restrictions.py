"""Restrictions of users in PostgreSQL: the player's row, the ranking's rows and the events, in one transaction.

The player's row is locked first, as a score update does, so an act and an update of the same user never interleave.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from podium.common.database import outage_mapped
from podium.common.outbox import ScoreState, Written, write_states

Kind = Literal["ban", "hide", "block"]

HIDING: Final = frozenset({"ban", "hide"})
"""Kinds that take a user out of the rankings; ``block`` only refuses updates for a time."""

_ENSURE = text("INSERT INTO player (user_id, username) VALUES (:user, :user) ON CONFLICT DO NOTHING")
_LOCK = text("SELECT restriction, restricted_until FROM player WHERE user_id = :user FOR UPDATE")
_SET = text(
    """
    UPDATE player SET restriction = :kind, restricted_until = :until, restriction_reason = :reason,
      updated_at = clock_timestamp() WHERE user_id = :user
    """
)
_LOG = text(
    "INSERT INTO restriction_log (user_id, kind, reason, until, actor) VALUES (:user, :kind, :reason, :until, :actor)"
)
_HIDE = text(
    """
    WITH RECURSIVE boards AS (
        (SELECT board FROM user_score ORDER BY board LIMIT 1)
        UNION ALL
        SELECT (SELECT s.board FROM user_score s WHERE s.board > boards.board ORDER BY s.board LIMIT 1)
        FROM boards WHERE boards.board IS NOT NULL
    )
    UPDATE user_score SET hidden = NOT hidden, version = version + 1
    WHERE board IN (SELECT board FROM boards WHERE board IS NOT NULL) AND user_id = :user
      AND hidden <> (:hidden OR total_actions = 0)
    RETURNING board, user_id, username, score, version, reached_at, hidden, total_actions
    """
)
"""A walk along the primary key finds the boards there are, whatever the resource says now. A row without actions
belongs to a board that was reset: it stays hidden until its user scores again."""

_EXPIRED = text(
    """
    SELECT user_id FROM player WHERE restriction IS NOT NULL AND restricted_until <= clock_timestamp()
    ORDER BY restricted_until LIMIT :limit
    """
)
_ONE = text(
    """
    SELECT user_id, username, total_actions, restriction, restricted_until, restriction_reason
    FROM player WHERE user_id = :user
    """
)
_LIST = text(
    """
    SELECT user_id, username, total_actions, restriction, restricted_until, restriction_reason FROM player
    WHERE restriction IS NOT NULL AND user_id > :after COLLATE "C"
      AND (CAST(:kind AS text) IS NULL OR restriction = :kind)
    ORDER BY user_id LIMIT :limit
    """
)
_HISTORY = text(
    """
    SELECT kind, reason, until, actor, created_at FROM restriction_log
    WHERE user_id = :user ORDER BY id DESC LIMIT 100
    """
)
_UNSENT = text("SELECT DISTINCT user_id FROM restriction_log WHERE NOT sent LIMIT :limit")
_SERIALISE = text("SELECT pg_advisory_xact_lock(hashtextextended('podium/restriction/' || :user, 0))")
_CURRENT = text(
    """
    SELECT p.restriction, p.restricted_until, (SELECT max(id) FROM restriction_log WHERE user_id = :user)
    FROM player p WHERE user_id = :user
    """
)
_SENT = text("UPDATE restriction_log SET sent = true WHERE user_id = :user AND id <= :last AND NOT sent")
_RESEND = text(
    """
    UPDATE restriction_log SET sent = false WHERE id IN (
      SELECT max(l.id) FROM restriction_log l JOIN player p USING (user_id)
      WHERE p.restriction IS NOT NULL GROUP BY user_id)
    """
)


@dataclass(frozen=True, slots=True)
class UserState:
    """A user and the restriction that is recorded for them, if any."""

    user_id: str
    username: str
    total_actions: int
    kind: str | None
    until: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a user's history; ``kind`` is ``none`` where a restriction was lifted."""

    kind: str
    reason: str
    until: datetime | None
    actor: str
    created_at: datetime


@dataclass(slots=True)
class Delivery:
    """What every pod must be told about a user, while nobody else tells them something else."""

    kind: str | None
    until: datetime | None
    _connection: AsyncConnection
    _user: str
    _last: int | None

    async def done(self) -> None:
        """Note that it was told."""
        await self._connection.execute(_SENT, {"user": self._user, "last": self._last or 0})


class RestrictionStore:
    """Raises StoreUnavailable from every method while PostgreSQL is away."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def restrict(
        self, user_id: str, kind: Kind | None, *, reason: str, until: datetime | None, actor: str
    ) -> list[Written]:
        """Put a restriction in the place of any other, or lift it with None; returns the events to send."""
        async with outage_mapped("restrict"), self.engine.begin() as connection:
            if kind is not None:
                await connection.execute(_ENSURE, {"user": user_id})
            if (await connection.execute(_LOCK, {"user": user_id})).one_or_none() is None:
                return []
            return await _apply(connection, user_id, kind, reason, until, actor)

    async def lift_expired(self, limit: int = 100) -> list[tuple[str, list[Written]]]:
        """Lift restrictions whose time is over, each in a transaction of its own; returns users and events."""
        async with outage_mapped("restrict"), self.engine.connect() as connection:
            users = (await connection.execute(_EXPIRED, {"limit": limit})).scalars().all()
        lifted = []
        for user in users:
            async with outage_mapped("restrict"), self.engine.begin() as connection:
                row = (await connection.execute(_LOCK, {"user": user})).one_or_none()
                now = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
                # Another pod, or an admin, may have been here since.
                if row is None or row[0] is None or row[1] is None or row[1] > now:
                    continue
                lifted.append((user, await _apply(connection, user, None, "its time is over", None, "podium")))
        return lifted

    async def user(self, user_id: str) -> UserState | None:
        """One user."""
        async with outage_mapped("restrict"), self.engine.connect() as connection:
            row = (await connection.execute(_ONE, {"user": user_id})).one_or_none()
        return UserState(*row) if row else None

    async def restricted(self, *, kind: str | None, after: str, limit: int) -> Sequence[UserState]:
        """Restricted users in the order of their ids, after ``after``."""
        async with outage_mapped("restrict"), self.engine.connect() as connection:
            rows = (await connection.execute(_LIST, {"kind": kind, "after": after, "limit": limit})).all()
        return [UserState(*row) for row in rows]

    async def history(self, user_id: str) -> Sequence[Entry]:
        """What was done about a user, newest first, at most 100 entries."""
        async with outage_mapped("restrict"), self.engine.connect() as connection:
            rows = (await connection.execute(_HISTORY, {"user": user_id})).all()
        return [Entry(*row) for row in rows]

    async def undelivered(self, limit: int = 500) -> Sequence[str]:
        """Users about whom not every pod may know the newest."""
        async with outage_mapped("restrict"), self.engine.connect() as connection:
            return (await connection.execute(_UNSENT, {"limit": limit})).scalars().all()

    async def redeliver_all(self) -> None:
        """Have everything told again, for a bucket that may have been lost."""
        async with outage_mapped("restrict"), self.engine.begin() as connection:
            await connection.execute(_RESEND)

    @asynccontextmanager
    async def delivery(self, user_id: str) -> AsyncIterator[Delivery]:
        """Tell the pods about a user: in the block nobody else does, so an older state never follows a newer one."""
        async with outage_mapped("restrict"), self.engine.begin() as connection:
            await connection.execute(_SERIALISE, {"user": user_id})
            row: Any = (await connection.execute(_CURRENT, {"user": user_id})).one_or_none()
            if row is None:
                yield Delivery(None, None, connection, user_id, None)
            else:
                yield Delivery(row[0], row[1], connection, user_id, row[2])


async def _apply(
    connection: AsyncConnection, user_id: str, kind: Kind | None, reason: str, until: datetime | None, actor: str
) -> list[Written]:
    """Change the locked player and the ranking's rows, and write the events."""
    values = {"user": user_id, "kind": kind, "until": until, "reason": reason if kind else None}
    await connection.execute(_SET, values)
    await connection.execute(
        _LOG, {"user": user_id, "kind": kind or "none", "reason": reason, "until": until, "actor": actor}
    )
    rows = await connection.execute(_HIDE, {"user": user_id, "hidden": kind in HIDING})
    return await write_states(connection, [ScoreState(**row) for row in rows.mappings()])
