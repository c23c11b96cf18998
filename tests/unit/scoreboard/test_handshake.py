"""Which handshakes are ordinary, and that the short way answers them as the library does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.http11 import Request
from websockets.server import ServerProtocol

from podium.scoreboard.handshake import SUBPROTOCOL, Offer, agent_class, recognise
from podium.scoreboard.representations import PLAIN
from podium.scoreboard.websocket_protocol import _DEFLATE

ORDINARY = {
    b"host": b"podium.test",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",
}


def offer(changes: dict[bytes, bytes] | None = None, *, own_traces: bool = False) -> Offer | None:
    """What is made of an ordinary handshake with other headers."""
    return recognise([*(ORDINARY | (changes or {})).items()], "192.0.2.7", own_traces=own_traces)


def test_the_key_of_the_standard() -> None:
    """RFC 6455, section 1.3."""
    found = offer()
    assert found is not None
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in found.answer
    assert found.answer.startswith(b"HTTP/1.1 101 ")
    assert found.answer.endswith(b"\r\n\r\n")
    assert (found.subprotocols, found.encoding, found.address, found.agent) == ((), PLAIN, "192.0.2.7", "none")


@pytest.mark.parametrize(
    "changes",
    [
        {b"sec-websocket-version": b"8"},
        {b"sec-websocket-key": b"short"},
        {b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZR=="},
        {b"sec-websocket-extensions": b"permessage-deflate; server_max_window_bits=10"},
        {b"sec-websocket-extensions": b"x-other"},
        {b"sec-websocket-protocol": b"podium.v1,"},
        {b"sec-websocket-protocol": b"podium v1"},
        {b"content-length": b"3"},
        {b"transfer-encoding": b"chunked"},
        {b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {b"traceparent": b"no trace"},
    ],
)
def test_others_are_looked_at_closely(changes: dict[bytes, bytes]) -> None:
    """Wrong, rare or traced: the library's way."""
    assert offer(changes) is None


def test_headers_that_count_come_once() -> None:
    """Of two values nobody can say which one holds."""
    twice = [*ORDINARY.items(), (b"sec-websocket-protocol", b"a"), (b"sec-websocket-protocol", b"b")]
    assert recognise(twice, "192.0.2.7", own_traces=False) is None
    assert recognise([*ORDINARY.items()][1:], "192.0.2.7", own_traces=False) is None  # no host


def test_a_trace_of_ones_own_wants_the_usual_way() -> None:
    """A request that says it is not recorded starts none."""
    assert offer(own_traces=True) is None
    assert offer({b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}, own_traces=True)


def test_the_gateway_says_who_calls() -> None:
    """Its header goes before the peer."""
    found = offer({b"x-podium-client-ip": b"::ffff:198.51.100.4"})
    assert found is not None
    assert found.address == "198.51.100.4"


@given(
    st.sampled_from(
        [
            None,
            b"permessage-deflate",
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ]
    ),
    st.sampled_from([None, b"podium.v1", b"podium.v1, bearer.abc", b"bearer.abc,podium.v1", b"chat"]),
)
def test_the_answer_is_the_librarys(extensions: bytes | None, protocols: bytes | None) -> None:
    """The same headers, but for the date, which a 101 need not have; and the same form of messages."""
    headers = dict(ORDINARY)
    if extensions is not None:
        headers[b"sec-websocket-extensions"] = extensions
    if protocols is not None:
        headers[b"sec-websocket-protocol"] = protocols
    found = recognise([*headers.items()], "192.0.2.7", own_traces=False)
    assert found is not None

    def select(_: ServerProtocol, offered: object) -> str | None:
        return SUBPROTOCOL if SUBPROTOCOL in list(offered) else None  # type: ignore[call-overload]

    library = ServerProtocol(extensions=[_DEFLATE], subprotocols=None, select_subprotocol=select)  # type: ignore[arg-type]
    text = b"".join(b"%b: %b\r\n" % header for header in headers.items())
    library.receive_data(b"GET /ws/scoreboard HTTP/1.1\r\n" + text + b"\r\n")
    (request,) = library.events_received()
    assert isinstance(request, Request)
    response = library.accept(request)
    assert response.status_code == 101
    wanted = {(name.lower(), value) for name, value in response.headers.raw_items() if name.lower() != "date"}
    lines = found.answer.decode().split("\r\n")[1:-2]
    assert {(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)} == wanted
    bits = [one.local_max_window_bits for one in library.extensions if isinstance(one, PerMessageDeflate)]
    assert found.encoding == (bits[0] if bits else PLAIN)


def test_agents_are_few() -> None:
    """A label of a metric has a handful of values."""
    agents = ("", "Mozilla/5.0 (X11)", "podium-client/1", "curl/8.0", "Go-http-client/1.1")
    assert [agent_class(one) for one in agents] == ["none", "browser", "podium", "other", "other"]
