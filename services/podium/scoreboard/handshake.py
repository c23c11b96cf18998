"""The ordinary opening handshake, told from its headers (RFC 6455, section 4.2). Pure.

Only what clients usually send is recognised; everything else is for the library, which says what is wrong with it. Both
ways give the same answer: a test holds them to it.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from podium.common.client_address import HEADER as CLIENT_ADDRESS
from podium.common.client_address import normal_address
from podium.common.telemetry import UNSAMPLED
from podium.scoreboard.representations import PLAIN

PATH: Final = "/ws/scoreboard"
SUBPROTOCOL: Final = "podium.v1"
BEARER_PREFIX: Final = "bearer."

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAMES: Final = re.compile(rf"{_NAME}(?:, ?{_NAME})*")

_WINDOW_BITS: Final = 15
_DEFLATE_OFFERS: Final = frozenset(
    {
        b"permessage-deflate",
        b"permessage-deflate; client_max_window_bits",
        b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    }
)
"""Offers of the usual clients, all answered alike: no message rests on another, windows have their full size."""

_DEFLATE_ANSWER: Final = (
    b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
)
_BEGIN: Final = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

_USED: Final = frozenset(
    {
        *(b"host", b"upgrade", b"user-agent", b"traceparent", b"content-length", b"transfer-encoding"),
        *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol", b"sec-websocket-extensions"),
        CLIENT_ADDRESS,
    }
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A handshake that can be accepted as it is."""

    answer: bytes
    """Head of the response."""
    subprotocols: tuple[str, ...]
    encoding: int
    """In which form the client takes messages: ``PLAIN``, or the window of permessage-deflate in bits."""
    address: str
    agent: str


def recognise(headers: Iterable[tuple[bytes, bytes]], peer: str, *, own_traces: bool) -> Offer | None:
    """The offer in a request's headers (names in lower case), None for one that has to be looked at closely.

    ``peer`` is the address of the other end; ``own_traces`` says whether a request without a trace may start one.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _USED:
            if name in found:
                return None
            found[name] = value
    get = found.get
    trace = get(b"traceparent")
    if own_traces if trace is None else UNSAMPLED.fullmatch(trace) is None:
        return None
    key = get(b"sec-websocket-key", b"")
    if (
        get(b"sec-websocket-version") != b"13"
        or _KEY.fullmatch(key) is None
        or b"host" not in found
        or b"content-length" in found
        or b"transfer-encoding" in found
    ):
        return None
    extensions = get(b"sec-websocket-extensions")
    if extensions is not None and extensions not in _DEFLATE_OFFERS:
        return None
    protocols = get(b"sec-websocket-protocol")
    offered: tuple[str, ...] = ()
    if protocols is not None:
        text = protocols.decode("latin-1")
        if _NAMES.fullmatch(text) is None:
            return None
        offered = tuple(one.strip() for one in text.split(","))
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    parts = [_BEGIN, b"Sec-WebSocket-Accept: ", accept, b"\r\n"]
    if extensions is not None:
        parts.append(_DEFLATE_ANSWER)
    if SUBPROTOCOL in offered:
        parts.append(b"Sec-WebSocket-Protocol: podium.v1\r\n")
    parts.append(b"\r\n")
    given = get(CLIENT_ADDRESS)
    return Offer(
        answer=b"".join(parts),
        subprotocols=offered,
        encoding=PLAIN if extensions is None else _WINDOW_BITS,
        address=normal_address(given.decode("latin-1") if given else peer),
        agent=agent_class(get(b"user-agent", b"").decode("latin-1")),
    )


@lru_cache(maxsize=4096)
def agent_class(user_agent: str) -> str:
    """What kind of program a ``User-Agent`` names: few values, for metrics."""
    if not user_agent:
        return "none"
    product = user_agent.partition("/")[0].lower()
    if product == "mozilla":
        return "browser"
    return "podium" if product.startswith("podium") else "other"
