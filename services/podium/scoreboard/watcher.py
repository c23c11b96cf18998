"""A watcher: one connection, as the hub sees it. The kinds of connection fill in how bytes leave."""

from abc import ABC, abstractmethod

from podium.scoreboard.representations import Published


class Watcher(ABC):
    """One connection. The hub owns the fields below; only it changes them.

    A watcher that is busy (its socket took less than it was given) gets nothing until it has caught up: ``stale``
    names the boards it then gets, at their newest. So what waits for a slow client never grows.
    """

    kind: str

    def __init__(self, now: float) -> None:
        self.boards: set[str] = set()
        self.sent: dict[str, int] = {}
        """Number of the last broadcast sent, by board."""
        self.stale: set[str] = set()
        self.busy_since: float | None = None
        """When the socket stopped taking (monotonic seconds), None while it takes."""
        self.last_frame = now
        """When the last frame of any kind came (monotonic seconds)."""
        self.session: str | None = None
        self.expires: float | None = None
        """When the token expires (Unix seconds), None for an anonymous watcher."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether bytes may still be written."""

    @abstractmethod
    def send(self, published: Published) -> None:
        """Write a snapshot; never waits."""

    @abstractmethod
    def beat(self, heartbeat: bytes) -> None:
        """Write a sign of life; ``heartbeat`` is the message's JSON. Never waits."""

    @abstractmethod
    def close(self, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        """End the connection in order, with a WebSocket close code."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection now; what waits is lost."""
