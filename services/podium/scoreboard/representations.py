"""The bytes of a snapshot, made once for everyone: WebSocket frame, SSE event, HTTP document. Pure."""

import hashlib
from typing import Any, Final

import msgspec

from podium.scoreboard.domain import Page, Ranking, Snapshot

_encode = msgspec.json.encode

OP_TEXT: Final = 0x1
OP_PING: Final = 0x9


class SnapshotMessage(msgspec.Struct, frozen=True, tag_field="type", tag="snapshot", rename="camel"):
    """The message ``snapshot`` to watchers."""

    board: str
    epoch: int
    version: int
    rankings: tuple[Ranking, ...]
    last_updated: str


def frame(payload: bytes, opcode: int = OP_TEXT) -> bytes:
    """An unmasked final frame of a server (RFC 6455, section 5.2). Control frames hold at most 125 bytes."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload


class Published:
    """A snapshot as it goes out. ``number`` counts this process's broadcasts, so no connection gets one twice."""

    __slots__ = ("event", "frame", "number", "snapshot")

    def __init__(self, snapshot: Snapshot, number: int) -> None:
        self.snapshot = snapshot
        self.number = number
        text = _encode(
            SnapshotMessage(snapshot.board, snapshot.epoch, snapshot.version, snapshot.rankings, snapshot.last_updated)
        )
        self.frame = frame(text)
        self.event = b"event: snapshot\nid: %d:%d\ndata: %b\n\n" % (snapshot.epoch, snapshot.version, text)


def page_of(snapshot: Snapshot, limit: int) -> Page:
    """The first ``limit`` places of a snapshot."""
    return Page(snapshot.rankings[:limit], snapshot.last_updated, snapshot.board, snapshot.epoch, snapshot.version)


def document(value: Any) -> bytes:
    """A message or document as JSON."""
    return _encode(value)


def entity_tag(body: bytes) -> str:
    """Strong validator of exactly these bytes (RFC 9110, section 8.8.3)."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names ``tag``: weak comparison, as RFC 9110, section 13.1.2 wants it for GET."""
    if if_none_match is None:
        return False
    candidates = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in candidates or tag in candidates
