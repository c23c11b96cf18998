"""Who is calling: the gateway says it in a header that it always overwrites."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

HEADER = b"x-podium-client-ip"


def client_ip(scope: Mapping[str, Any]) -> str:
    """Address of the client of an ASGI scope: the gateway's header, else the peer. IPv4-mapped IPv6 becomes IPv4.

    Only the gateway reaches a service (NetworkPolicy), so its header is trusted. Returns ``"0.0.0.0"`` where neither
    is an address.
    """
    headers: Iterable[tuple[bytes, bytes]] = scope.get("headers", ())
    given = next((value.decode("latin-1") for name, value in headers if name == HEADER), None)
    peer = scope.get("client")
    return normal_address(given or (peer[0] if peer else ""))


@lru_cache(maxsize=65_536)
def normal_address(text: str) -> str:
    """An IP address in its usual spelling, IPv4-mapped IPv6 as IPv4; ``"0.0.0.0"`` for anything else."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return "0.0.0.0"
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
