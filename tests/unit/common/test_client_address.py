"""The client's address is what the gateway says."""

import pytest

from podium.common.client_address import client_ip


@pytest.mark.parametrize(
    ("header", "peer", "expected"),
    [
        (b"203.0.113.9", "10.0.0.1", "203.0.113.9"),
        (None, "10.0.0.1", "10.0.0.1"),
        (b"::ffff:203.0.113.9", "10.0.0.1", "203.0.113.9"),
        (b"2001:db8::1", "10.0.0.1", "2001:db8::1"),
        (b"nonsense", "10.0.0.1", "0.0.0.0"),
        (None, None, "0.0.0.0"),
    ],
)
def test_client_ip(header: bytes | None, peer: str | None, expected: str) -> None:
    """The gateway's header counts, else the peer; mapped IPv4 is IPv4; nonsense is nobody."""
    scope = {
        "headers": [(b"x-podium-client-ip", header)] if header else [],
        "client": (peer, 1234) if peer else None,
    }
    assert client_ip(scope) == expected
