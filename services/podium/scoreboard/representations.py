"""The bytes of a snapshot, made once for everyone: WebSocket frame, SSE event, HTTP document. Pure."""

import hashlib
import zlib
from typing import Any, Final

import msgspec

from podium.scoreboard.domain import Page, Ranking, Snapshot

_encode = msgspec.json.encode

OP_TEXT: Final = 0x1
OP_PING: Final = 0x9
_RSV1: Final = 0x40
"""Marks a compressed message (RFC 7692, section 6)."""

PLAIN: Final = 0
"""Form of frames that are not compressed; the others are named by the size of their window, 9 to 15 bits."""

WORTH: Final = 0.9
"""A snapshot is sent compressed where that takes at most this share of its bytes."""

_FLUSHED: Final = b"\x00\x00\xff\xff"
"""What ends compressed data and is left out (RFC 7692, section 7.2.1)."""


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


def compressed(payload: bytes, window_bits: int) -> bytes | None:
    """A message by permessage-deflate without context of others (RFC 7692, section 7.2.1); None where it does not pay.

    One such message is right for every connection with the same window.
    """
    deflate = zlib.compressobj(wbits=-window_bits)
    data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    data = data.removesuffix(_FLUSHED)
    return data if len(data) <= WORTH * len(payload) else None


class Published:
    """A snapshot as it goes out. ``number`` counts this process's broadcasts, so no connection gets one twice."""

    __slots__ = ("_frames", "event", "number", "snapshot", "text")

    def __init__(self, snapshot: Snapshot, number: int) -> None:
        self.snapshot = snapshot
        self.number = number
        self.text = text = _encode(
            SnapshotMessage(snapshot.board, snapshot.epoch, snapshot.version, snapshot.rankings, snapshot.last_updated)
        )
        self._frames: dict[int, bytes] = {PLAIN: frame(text)}
        self.event = b"event: snapshot\nid: %d:%d\ndata: %b\n\n" % (snapshot.epoch, snapshot.version, text)

    def frame_for(self, encoding: int) -> bytes:
        """The WebSocket frame in a form, made when it is first asked for."""
        found = self._frames.get(encoding)
        if found is None:
            data = compressed(self.text, encoding)
            found = self._frames[PLAIN] if data is None else frame(data, _RSV1 | OP_TEXT)
            self._frames[encoding] = found
        return found


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
