"""How a board is spread over shards: who lives where, and how their answers become one. Pure.

A board of one shard lives under the hash tag ``{board:<board>}``. One of S > 1 shards has a *head* under that tag
(state, top, and the first places of every shard) and S shards with tags of their own, so Redis Cluster puts them into
slots of several masters. A user's shard is a stable hash of the id, so every shard is ranked by itself.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from podium.scoreboard.domain import Ranking

_ID_AT: Final = 17
"""Where the user id begins in a member: after 16 digits of time and a colon."""


def shard_of(user_id: str, shards: int) -> int:
    """The shard of a user: CRC-32 of the id's UTF-8 bytes, modulo the number of shards."""
    return zlib.crc32(user_id.encode()) % shards if shards > 1 else 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the keys of one shard of a board live."""

    board: str
    shard: int = 0
    shards: int = 1

    @property
    def prefix(self) -> str:
        """What all its keys begin with, the hash tag included."""
        return f"{{board:{self.board}}}:" if self.shards == 1 else f"{{board:{self.board}:{self.shards}.{self.shard}}}:"

    @property
    def meta(self) -> str:
        """Key of its state."""
        return f"{self.prefix}meta"

    @property
    def top(self) -> str:
        """Key of the board's newest snapshot (of the head, or of a board of one shard)."""
        return f"{self.prefix}top"


def places(board: str, shards: int) -> list[Place]:
    """All shards of a board."""
    return [Place(board, shard, shards) for shard in range(shards)]


class Entry(NamedTuple):
    """One place of a shard as the sorted set has it; entries compare as the ranking does, and fast.

    ``score`` is the negated score, ``member`` the time it was reached (16 digits, µs), a colon and the user id.
    """

    score: int
    member: bytes
    username: bytes

    @property
    def user_id(self) -> str:
        """The user."""
        return self.member[_ID_AT:].decode()


def entries(flat: Sequence[bytes]) -> list[Entry]:
    """Entries from a script's list of member, score and username in turns."""
    return [Entry(int(score), member, name) for member, score, name in zip(*[iter(flat)] * 3, strict=True)]


def ranked(ordered: Iterable[Entry], first: int) -> tuple[Ranking, ...]:
    """Entries in order as places of a ranking that begin with rank ``first``."""
    return tuple(
        Ranking(one.user_id, one.username.decode(), -one.score, rank) for rank, one in enumerate(ordered, first)
    )


def first_of(parts: Iterable[Sequence[Entry]], limit: int) -> list[Entry]:
    """The first ``limit`` of several ordered lists."""
    return sorted(chain.from_iterable(parts))[:limit]


def unsure(parts: Sequence[Sequence[Entry]], asked: int, limit: int) -> list[int]:
    """Which parts may hold more of the first ``limit``: each was asked for its first ``asked`` entries.

    A part that gave fewer has no more; one whose last entry is beyond the limit's cannot add to it.
    """
    best = first_of(parts, limit)
    return [
        index for index, part in enumerate(parts) if len(part) == asked and (len(best) < limit or part[-1] <= best[-1])
    ]


def around_of(parts: Iterable[Sequence[Entry]], own: Entry, around: int) -> list[Entry]:
    """The entry ``own`` with up to ``around`` neighbours on each side, from what each shard has next to it.

    The shards are read one after another; where the user's own entry has moved meanwhile, ``own`` stands for it.
    """
    user = own.member[_ID_AT:]
    everyone = sorted([own, *(one for part in parts for one in part if one.member[_ID_AT:] != user)])
    at = everyone.index(own)
    return everyone[max(0, at - around) : at + around + 1]
