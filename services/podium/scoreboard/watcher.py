"""A watcher: one connection, as the hub sees it. The kinds of connection fill in how bytes leave."""

from abc import ABC, abstractmethod
from typing import ClassVar

from podium.scoreboard.representations import PLAIN, Published

NO_DESCRIPTOR = -1
"""Of a watcher whose bytes do not simply go to a socket."""


class Watcher(ABC):
    """One connection. The hub owns the fields below; only it changes them.

    A watcher that is busy (its socket took less than it was given) gets nothing until it has caught up; then it gets
    the newest of what it missed. So what waits for a slow client never grows.
    """

    __slots__ = (
        *(
            "agent",
            "boards",
            "busy_since",
            "descriptor",
            "encoding",
            "expires",
            "last_frame",
            "missed_from",
            "session",
            "slot",
        ),
    )
    kind: ClassVar[str]

    def __init__(self, now: float, *, descriptor: int = NO_DESCRIPTOR, encoding: int = PLAIN) -> None:
        self.agent = "none"
        """What kind of program it is, by its ``User-Agent``."""
        self.boards: tuple[str, ...] = ()
        self.descriptor = descriptor
        """The socket to which ready-made frames may be written while the watcher is not busy."""
        self.encoding = encoding
        """In which form frames are written: ``PLAIN``, or the size of the window of permessage-deflate."""
        self.busy_since: float | None = None
        """When the socket stopped taking (monotonic seconds), None while it takes."""
        self.missed_from = 0
        """Of a busy watcher: broadcasts with a greater number were missed."""
        self.last_frame = now
        """When the last frame of any kind came (monotonic seconds)."""
        self.slot = 0
        """Place in the wheel of heartbeats."""
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

    def send_rest(self, frame: bytes, written: int) -> None:
        """Go on with a frame of which ``descriptor`` took so many bytes, none where it raised."""
        raise NotImplementedError  # only for watchers with a descriptor

    @abstractmethod
    def beat(self, heartbeat: bytes) -> None:
        """Write a sign of life; ``heartbeat`` is the message's JSON. Never waits."""

    @abstractmethod
    def close(self, code: int, reason: str, retry_after_ms: int | None = None) -> None:
        """End the connection in order, with a WebSocket close code."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection now; what waits is lost."""
