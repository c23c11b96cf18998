"""A watcher whose socket is a list, and snapshots to give it."""

import time
from collections.abc import Sequence

from podium.scoreboard.domain import Ranking, Snapshot
from podium.scoreboard.representations import Published
from podium.scoreboard.watcher import Watcher


class Listed(Watcher):
    """Keeps what it is sent."""

    kind = "test"

    def __init__(self) -> None:
        super().__init__(time.monotonic())
        self.got: list[tuple[int, int]] = []
        self.users: list[str] = []
        self.beats = 0
        self.closed: tuple[int, str] | None = None
        self.aborted = False

    @property
    def is_open(self) -> bool:
        return self.closed is None and not self.aborted

    def send(self, published: Published) -> None:
        self.got.append(published.snapshot.age)
        self.users = [place.user_id for place in published.snapshot.rankings]

    def beat(self, heartbeat: bytes) -> None:
        self.beats += 1

    def close(self, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        self.closed = code, reason

    def abort(self) -> None:
        self.aborted = True


def top(version: int, board: str = "default", users: Sequence[str] = ()) -> Snapshot:
    """A snapshot of epoch 1."""
    rankings = tuple(Ranking(user, user, 100 - rank, rank) for rank, user in enumerate(users, 1))
    return Snapshot(board, 1, version, rankings, "2026-01-01T00:00:00.000000Z")
