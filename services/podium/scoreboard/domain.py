"""The ranking: order, snapshots and which of two is newer. Pure.

The order is ``score DESC, reached_at ASC, user_id ASC``. In Redis it is the sorted set's own order: the set's score is
the negated score, its member the time in microseconds, 16 digits, and the user id, so equal scores compare by bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final, NamedTuple

import msgspec

SCORE_LIMIT: Final = 2**53
"""Points. Integers of a smaller magnitude are exact as doubles, which is what a sorted set keeps."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """``moment`` (with an offset) as Unix time in microseconds, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def member(reached_at: int, user_id: str) -> str:
    """Member of the sorted set of a user who reached the score at ``reached_at`` (Unix microseconds)."""
    return f"{reached_at:016d}:{user_id}"


class Row(NamedTuple):
    """A user's state as the ranking holds it: member and (negated) score of the sorted set, and the user's value.

    ``score`` is False for a hidden user, who has no member.
    """

    member: str
    score: int
    value: str


def row_of(user_id: str, username: str, score: int, version: int, reached_at: int, hidden: bool) -> Row:
    """The row of a user who reached ``score`` at ``reached_at`` (Unix microseconds)."""
    time = f"{reached_at:016d}"
    return Row(f"{time}:{user_id}", False if hidden else -score, f"{version}|{hidden:d}|{time}|{username}")


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Rows as the scripts take them: MessagePack of one flat list."""
    return msgspec.msgpack.encode(list(chain.from_iterable(rows)))


def timestamp(moment: datetime) -> str:
    """``moment`` as RFC 3339 in UTC with six decimals: such texts compare as their times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Ranking(msgspec.Struct, frozen=True, rename="camel"):
    """One place of a ranking."""

    user_id: str
    username: str
    score: int
    rank: int


class Snapshot(msgspec.Struct, frozen=True, rename="camel"):
    """The whole top of a board.

    A larger ``epoch`` is a newer rebuild of the ranking; within one, ``version`` grows with each change of the top.
    ``traces`` are traceparents of the updates that made the change.
    """

    board: str
    epoch: int
    version: int
    rankings: tuple[Ranking, ...]
    last_updated: str
    traces: tuple[str, ...] = ()

    @property
    def age(self) -> tuple[int, int]:
        """What decides which snapshot is newer: (epoch, version)."""
        return self.epoch, self.version


class Page(msgspec.Struct, frozen=True, rename="camel"):
    """The first places of a board, as ``GET /api/v1/scoreboard`` shows them."""

    rankings: tuple[Ranking, ...]
    last_updated: str
    board: str
    epoch: int
    version: int


class Standing(msgspec.Struct, frozen=True, rename="camel"):
    """One user's place on a board, with the neighbours above and below.

    ``percentile`` (0 to 100) is the share of the other players who are behind; ``tier`` is None below the lowest.
    """

    user_id: str
    username: str
    score: int
    rank: int
    percentile: float
    tier: str | None
    players: int
    neighbours: tuple[Ranking, ...]
    last_updated: str
    board: str
    epoch: int
    version: int


_snapshot_decoder = msgspec.json.Decoder(Snapshot)


def decode_snapshot(data: bytes) -> Snapshot:
    """A snapshot from its JSON. Raises ``msgspec.DecodeError`` (a ValueError) for anything else."""
    return _snapshot_decoder.decode(data)


def percentile(rank: int, players: int) -> float:
    """Percentage of the other players who are behind ``rank``; 100 for the only player."""
    return 100.0 if players <= 1 else round(100 * (players - rank) / (players - 1), 2)


def without(snapshot: Snapshot, is_restricted: Callable[[str], bool]) -> Snapshot:
    """The same top without restricted users; who was behind them moves up."""
    left = [place for place in snapshot.rankings if not is_restricted(place.user_id)]
    if len(left) == len(snapshot.rankings):
        return snapshot
    rankings = tuple(Ranking(one.user_id, one.username, one.score, rank) for rank, one in enumerate(left, 1))
    return msgspec.structs.replace(snapshot, rankings=rankings)


def continued(
    snapshot: Snapshot, page: Page, limit: int, is_restricted: Callable[[str], bool] = lambda _: False
) -> Page:
    """The places of ``snapshot``, and below them those of an older ``page``: the last good answer; it never goes back.

    Users who have left the top since are not in it until the page can be read again, nor are those who are restricted:
    they may have been banned or hidden since.
    """
    of_page = page.epoch, page.version
    top = snapshot.rankings if of_page < snapshot.age else ()
    shown = {place.user_id for place in top}
    below = [
        place for place in page.rankings[len(top) :] if place.user_id not in shown and not is_restricted(place.user_id)
    ]
    rest = (Ranking(one.user_id, one.username, one.score, rank) for rank, one in enumerate(below, len(top) + 1))
    updated = snapshot.last_updated if top else page.last_updated
    return Page((*top, *rest)[:limit], updated, snapshot.board, *max(of_page, snapshot.age))


class Tops:
    """The newest snapshot of each board that this process has seen. It never goes back."""

    def __init__(self) -> None:
        self._newest: dict[str, Snapshot] = {}

    def get(self, board: str) -> Snapshot | None:
        """The newest snapshot of ``board``, or None before the first."""
        return self._newest.get(board)

    def offer(self, snapshot: Snapshot) -> bool:
        """Take ``snapshot`` if it is newer than the one at hand; tells whether it was."""
        held = self._newest.get(snapshot.board)
        if held is not None and snapshot.age <= held.age:
            return False
        self._newest[snapshot.board] = snapshot
        return True

    def missing(self, boards: Iterable[str]) -> list[str]:
        """The boards without a snapshot."""
        return [board for board in boards if board not in self._newest]
