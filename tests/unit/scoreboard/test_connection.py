"""An open WebSocket by its bytes: what a client's frames cause, and what is written to it."""

import asyncio
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from podium.scoreboard.connection import MAX_FRAME_BYTES, Connection, Service
from podium.scoreboard.hub import Hub
from podium.scoreboard.pace import BURST
from podium.scoreboard.representations import Published, compressed, frame
from tests.unit.scoreboard.listed import top


class Wire(asyncio.Transport):
    """A transport whose peer reads all, or nothing while ``full``."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False
        self.aborted = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        assert not self.closing
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Notes(Service):
    """Keeps what connections report."""

    def __init__(self) -> None:
        self.hub = Hub(tick=0)
        self.taken: list[str | None] = []
        self.refused = 0
        self.ends = 0

    def take(self, connection: Connection, text: str | None) -> None:
        self.taken.append(text)
        if text == "close me":
            connection.close(4009, "as you wish")

    def refuse(self, connection: Connection) -> None:
        self.refused += 1

    def flooded(self, connection: Connection) -> None:
        connection.close(1008, "enough")

    def ended(self, connection: Connection) -> None:
        self.hub.leave(connection)
        self.ends += 1


class Peer:
    """A connection, and the client at the other end of its wire."""

    def __init__(self, encoding: int = 0) -> None:
        self.notes, self.wire = Notes(), Wire()
        self.connections: set[Any] = set()
        self.connection = Connection(self.notes, self.wire, self.connections, encoding)
        self.connections.add(self.connection)
        self.client = ClientProtocol(parse_uri("ws://podium.test/"), state=OPEN)
        if encoding:
            self.client.extensions = [PerMessageDeflate(True, True, encoding, 15)]

    def send(self, data: bytes) -> None:
        """Bytes of the client arrive."""
        self.connection.data_received(data)

    def flush(self) -> None:
        """What the client's library wants to send arrives."""
        self.send(b"".join(self.client.data_to_send()))

    def got(self) -> list[Frame]:
        """Frames that the client read since the last call."""
        data, self.wire.written = bytes(self.wire.written), bytearray()
        self.client.receive_data(data)
        return [event for event in self.client.events_received() if isinstance(event, Frame)]


def test_an_empty_pong_is_a_sign_of_life_and_no_more() -> None:
    """It needs no parser."""
    peer = Peer()
    before = peer.connection.last_frame
    peer.client.send_pong(b"")
    peer.flush()
    assert peer.connection.last_frame > before
    assert peer.connection._parser is None


TEXTS = st.lists(st.text(max_size=200), min_size=1, max_size=6)


@given(TEXTS, st.data())
def test_messages_come_whole_however_their_bytes_are_cut(texts: list[str], data: st.DataObject) -> None:
    """Frames may be split by the client and by the network, with pings between."""
    peer = Peer()
    for text in texts:
        raw = text.encode()
        cut = data.draw(st.integers(0, len(raw)))
        if data.draw(st.booleans()):
            peer.client.send_text(raw[:cut], fin=False)
            peer.client.send_ping(b"there?")
            peer.client.send_continuation(raw[cut:], fin=True)
        else:
            peer.client.send_text(raw)
            peer.client.send_pong(b"")
    stream = b"".join(peer.client.data_to_send())
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        peer.send(stream[:size])
        stream = stream[size:]
    assert peer.notes.taken == texts
    assert all(one.opcode is Opcode.PONG and one.data == b"there?" for one in peer.got())


def test_a_binary_message_is_told_apart() -> None:
    """It has no text."""
    peer = Peer()
    peer.client.send_binary(b"{}")
    peer.flush()
    assert peer.notes.taken == [None]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02{}", 1002),  # not masked
        (b"\x83\x80abcd", 1002),  # an opcode that does not exist
        (b"\xc1\x80abcd", 1002),  # a reserved bit without an extension
        (b"\x09\x80abcd", 1002),  # a control frame in parts
        (b"\x80\x80abcd", 1002),  # a continuation of nothing
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),  # not UTF-8
        (b"\x81\xff" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big") + b"abcd", 1009),  # too large, told by its head
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection(data: bytes, code: int) -> None:
    """With the code that RFC 6455 has for it, in section 7.4.1."""
    peer = Peer()
    peer.send(data)
    (end,) = peer.got()
    assert end.opcode is Opcode.CLOSE
    assert int.from_bytes(bytes(end.data[:2]), "big") == code
    assert peer.notes.ends == 1
    assert not peer.connection.is_open
    peer.connection.connection_lost(None)


def test_a_client_that_closes_is_answered() -> None:
    """And left: nothing is written any more."""
    peer = Peer()
    peer.client.send_close(1000, "bye")
    peer.flush()
    (end,) = peer.got()
    assert (end.opcode, bytes(end.data)) == (Opcode.CLOSE, b"\x03\xe8bye")
    assert peer.wire.closing
    assert peer.notes.ends == 1
    peer.connection.answer({"type": "pong"})
    peer.connection.close(1001, "")
    peer.connection.connection_lost(None)
    assert (peer.notes.ends, len(peer.connections)) == (1, 0)


async def test_our_close_waits_for_its_answer() -> None:
    """Messages after it are not carried out."""
    peer = Peer()
    peer.client.send_text(b"close me")
    peer.client.send_text(b"and me")
    peer.flush()
    (end,) = peer.got()
    assert bytes(end.data) == b"\x0f\xa9as you wish"
    assert peer.notes.taken == ["close me"]
    assert not peer.wire.closing
    peer.flush()  # the client's library has answered by itself
    assert peer.wire.closing
    peer.connection.connection_lost(None)
    assert peer.notes.ends == 1


def test_a_message_and_a_close_at_once() -> None:
    """The message asks for a close, the close is there already: one end."""
    peer = Peer()
    peer.client.send_text(b"close me")
    peer.client.send_close(1000)
    peer.flush()
    assert [one.opcode for one in peer.got()] == [Opcode.CLOSE]
    assert peer.notes.ends == 1


def test_who_does_not_read_is_not_read() -> None:
    """Answers to a client with a full socket would pile up."""
    peer = Peer()
    peer.notes.hub.join(peer.connection, ["default"])
    peer.connection.pause_writing()
    assert not peer.wire.reading
    assert peer.connection.busy_since is not None
    peer.connection.resume_writing()
    assert peer.wire.reading
    assert peer.connection.busy_since is None


def test_messages_beyond_the_burst_are_refused() -> None:
    """And not carried out; a client that then waits is heard again."""
    peer = Peer()
    for number in range(BURST + 3):
        peer.client.send_text(b"%d" % number)
    peer.flush()
    assert peer.notes.taken == [str(number) for number in range(BURST)]
    assert peer.notes.refused == 3
    peer.connection._due = 0.0  # long ago
    peer.client.send_text(b"later")
    peer.flush()
    assert peer.notes.taken[-1] == "later"


@pytest.mark.parametrize("kind", ["text", "ping", "fragment"])
async def test_a_flood_ends_the_connection(kind: str) -> None:
    """Of whatever frames it is; what comes after its close is not even parsed."""
    peer = Peer()
    if kind == "fragment":
        peer.client.send_text(b"", fin=False)
    for _ in range(5000):
        if kind == "text":
            peer.client.send_text(b"x")
        elif kind == "ping":
            peer.client.send_ping(b"")
        else:
            peer.client.send_continuation(b"", fin=False)
    peer.flush()
    end = peer.got()[-1]
    assert (end.opcode, bytes(end.data)) == (Opcode.CLOSE, b"\x03\xf0enough")
    assert (len(peer.notes.taken), peer.notes.refused) == ((BURST, BURST) if kind == "text" else (0, 0))
    assert peer.notes.ends == 1
    peer.send(b"no frame at all")
    assert peer.got() == []
    peer.connection.connection_lost(None)


async def test_a_flood_that_ends_with_a_close_is_left() -> None:
    """Nothing is waited for where both sides have said it."""
    peer = Peer()
    for _ in range(3 * BURST):
        peer.client.send_ping(b"")
    peer.client.send_close(1000)
    peer.flush()
    assert peer.wire.closing
    assert peer.notes.ends == 1


def test_who_never_speaks_has_no_bucket() -> None:
    """Pongs cost nothing: all such connections share one number."""
    one, two = Peer(), Peer()
    for peer in (one, two):
        peer.client.send_pong(b"")
        peer.flush()
    assert one.connection._due is two.connection._due


@pytest.mark.parametrize("encoding", [0, 9, 12, 15])
def test_a_snapshot_in_any_form_is_the_same(encoding: int) -> None:
    """The client's library reads it; compressed, it is smaller."""
    peer = Peer(encoding)
    published = Published(top(7), 1)
    published.text = json.dumps(
        {"rankings": [{"userId": f"user-{index}", "score": index} for index in range(50)]}
    ).encode()
    published._frames = {0: frame(published.text)}
    peer.connection.send(published)
    size = len(peer.wire.written)
    (shown,) = peer.got()
    assert bytes(shown.data) == published.text
    assert (size < len(published.text)) == bool(encoding)


def test_compressed_messages_of_a_client_are_read() -> None:
    """Where the extension was negotiated."""
    peer = Peer(15)
    for text in ('{"type":"ping"}' * 10, "x"):
        peer.client.send_text(text.encode())
    peer.flush()
    assert peer.notes.taken == ['{"type":"ping"}' * 10, "x"]


def test_a_message_that_swells_beyond_the_limit_ends_the_connection() -> None:
    """A few compressed bytes may stand for megabytes."""
    peer = Peer(15)
    peer.client.send_text(b"0" * (MAX_FRAME_BYTES + 1))
    peer.flush()
    (end,) = peer.got()
    assert int.from_bytes(bytes(end.data[:2]), "big") == 1009


@given(st.binary(max_size=2000), st.integers(9, 15))
def test_compressed_payloads_are_read_by_zlib(payload: bytes, window: int) -> None:
    """With the tail that RFC 7692 leaves out; and only where it pays."""
    data = compressed(payload, window)
    if data is None:
        return
    assert len(data) < len(payload)
    assert zlib.decompressobj(wbits=-window).decompress(data + b"\x00\x00\xff\xff") == payload
