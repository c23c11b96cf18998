"""The rankings in Redis as the comparison with PostgreSQL sees them: what differs, and setting it right."""

import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import msgspec
from redis.asyncio.cluster import RedisCluster

from podium.scoreboard.domain import Row, encode_rows
from podium.scoreboard.layout import Place, places, shard_of
from podium.scoreboard.scripts import Gate, Script, outage_mapped
from podium.scoreboard.shards import Superseded

STEP_ROWS: Final = 500
"""Rows that one script looks at, so that it stops the node for some milliseconds at most."""


CHECKS_AT_ONCE: Final = 4
"""Calls of a comparison at a time: it has time, updates have not."""


_VALUE = re.compile(r"\d+\|[01]\|\d+\|")


@dataclass(frozen=True, slots=True)
class Held:
    """What the ranking holds of a user: the user's value, and the score of the member that it names."""

    value: str | None
    score: int | None

    @property
    def version(self) -> int:
        """Version of the user's row; -1 where there is none, or nothing that can be read."""
        return -1 if self.value is None or not self.readable else int(self.value.partition("|")[0])

    @property
    def readable(self) -> bool:
        """Whether the value, if there is one, has the form that the scripts write."""
        return self.value is None or _VALUE.match(self.value) is not None


@dataclass(frozen=True, slots=True)
class Compared:
    """Of the users that were compared: who differs, how many the ranking knows, and how many have a place in it."""

    different: list[str]
    known: int
    shown: int


class AuditStore:
    """Raises StoreUnavailable("redis") where the cluster is away, Superseded where the epoch is current no more."""

    _compare = Script("compare")
    _look = Script("look")
    _strays = Script("strays")
    _heal = Script("heal")

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis
        self._gate = Gate(CHECKS_AT_ONCE)

    async def compare(self, board: str, shards: int, epoch: int, rows: Sequence[tuple[str, Row]]) -> Compared:
        """Compare users' rows (user id, row) with what the ranking holds."""
        by_user = dict(rows)
        parts = [
            (place, [by_user[user_id] for user_id in group]) for place, group in _by_place(board, shards, list(by_user))
        ]

        async def one(place: Place, part: Sequence[Row]) -> Compared:
            answer = await self._compare(self._redis, [place.meta], place.prefix, epoch, encode_rows(part))
            different, known, shown = _current(board, answer)
            return Compared([user.decode() for user in different], known, shown)

        async with outage_mapped("compare"):
            found = await self._gate.together(partial(one, place, part) for place, part in parts)
        return Compared(
            [user for part in found for user in part.different],
            sum(part.known for part in found),
            sum(part.shown for part in found),
        )

    async def held(self, board: str, shards: int, epoch: int, users: Sequence[str]) -> dict[str, Held]:
        """What the ranking holds of ``users``."""
        answer: dict[str, Held] = {}
        for place, group in _by_place(board, shards, users):
            async with outage_mapped("look"):
                found = _current(board, await self._look(self._redis, [place.meta], place.prefix, epoch, *group))
            for user_id, value, score in zip(group, found[::2], found[1::2], strict=True):
                answer[user_id] = Held(None if value is None else value.decode(), None if score is None else int(score))
        return answer

    async def heal(self, board: str, shards: int, epoch: int, users: Sequence[tuple[str, Held, Row | None]]) -> int:
        """Set users to their rows (None: there is no such user), unless what was held has changed; answers how many."""
        by_user = {user_id: (held, row) for user_id, held, row in users}
        healed = 0
        for place, group in _by_place(board, shards, list(by_user)):
            flat: list[str | int | bool] = []
            for user_id in group:
                held, row = by_user[user_id]
                flat += (user_id, False if held.value is None else held.value, *(row or (False, False, False)))
            async with outage_mapped("heal"):
                healed += _current(
                    board,
                    await self._heal(self._redis, [place.meta], place.prefix, epoch, msgspec.msgpack.encode(flat)),
                )
        return healed

    async def sizes(self, board: str, shards: int, epoch: int) -> tuple[int, int]:
        """How many users the ranking knows, and how many it shows."""
        users = shown = 0
        async with outage_mapped("sizes"):
            for place in places(board, shards):
                users += await cast(Awaitable[Any], self._redis.hlen(f"{place.prefix}{epoch}:users"))
                shown += await cast(Awaitable[Any], self._redis.zcard(f"{place.prefix}{epoch}:rank"))
        return users, shown

    async def sweep(self, place: Place, epoch: int, cursor: int) -> tuple[int, int]:
        """A step through a shard's sorted set, to remove members nobody has: next cursor (0: done), their number."""
        async with outage_mapped("sweep"):
            after, removed = _current(
                place.board,
                await self._strays(self._redis, [place.meta], place.prefix, epoch, cursor, STEP_ROWS),
            )
        return int(after), int(removed)

    async def users(self, place: Place, epoch: int, cursor: int) -> tuple[int, list[str]]:
        """One step through a shard's users: next cursor (0: done), and user ids (some may come twice)."""
        async with outage_mapped("users"):
            after, found = await cast(
                Awaitable[Any], self._redis.hscan(f"{place.prefix}{epoch}:users", cursor, count=STEP_ROWS)
            )
        return int(after), [user.decode() for user in found]

    async def note(self, board: str, checked: int, drifted: int) -> None:
        """Keep when the board was compared (Unix time) and how many users differed, for all projectors to tell."""
        async with outage_mapped("note"):
            await cast(
                Awaitable[Any],
                self._redis.hset(Place(board).meta, mapping={"checked": checked, "drifted": drifted}),
            )


def _by_place(board: str, shards: int, users: Sequence[str]) -> list[tuple[Place, list[str]]]:
    groups: dict[int, list[str]] = {}
    for user_id in users:
        groups.setdefault(shard_of(user_id, shards), []).append(user_id)
    return [
        (Place(board, shard, shards), group[start : start + STEP_ROWS])
        for shard, group in groups.items()
        for start in range(0, len(group), STEP_ROWS)
    ]


def _current(board: str, answer: Any) -> Any:
    if answer is None:
        raise Superseded(board)
    return answer
