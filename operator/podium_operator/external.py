"""External stores as their Secrets describe them. Pure.

The values stay in the Secret, which pods mount; rendered are only the names of its keys and the ports to let through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from podium_operator.builders.base import External, checksum
from podium_operator.spec import ExternalStore, ScoreboardSpec

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "redis": ("nodes",),
    "nats": ("url",),
    "postgres": ("host", "user", "password"),
}
"""Keys that the Secret of each store must have."""

OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "redis": ("password",),
    "nats": ("user", "password"),
    "postgres": ("port", "database", "readHost", "readPort"),
}

NATS_PORT = 4222
POSTGRES_PORT = "5432"

_NODE = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
"""`host:port`; an IPv6 address in brackets."""


class Unusable(ValueError):
    """A value of the Secret is of no use; the message names the key and what to write, not the value."""


def wanted(spec: ScoreboardSpec) -> dict[str, ExternalStore]:
    """The external stores that the spec names."""
    named = {"postgres": spec.postgres.external, "redis": spec.redis.external, "nats": spec.nats.external}
    return {store: external for store, external in named.items() if external is not None}


def read(store: str, secret: str, data: Mapping[str, str] | None) -> External:
    """What the Secret says about a store; its `problem` is a sentence if that is not enough."""
    where = f"Secret {secret}"
    if data is None:
        first, *others = REQUIRED[store]
        keys = f"the keys {', '.join([first, *others])}" if others else f"the key {first}"
        return External(secret, problem=f"{where} does not exist; make it with {keys}")
    known = {name: data[name] for name in (*REQUIRED[store], *OPTIONAL[store]) if data.get(name)}
    missing = [name for name in REQUIRED[store] if name not in known]
    if missing:
        return External(secret, problem=f"{where} lacks {', '.join(missing)}; add what is missing")
    try:
        addresses = _addresses(store, known)
    except Unusable as error:
        return External(secret, problem=f"{where}: {error}")
    return External(secret, tuple(known), addresses, checksum(known))


def _addresses(store: str, data: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Host and port of all that the services connect to. Raises Unusable."""
    for name, value in data.items():
        if value != value.strip():
            raise Unusable(f"{name} begins or ends with white space (perhaps a newline); remove it")
    if store == "redis":
        return tuple(_node("nodes", node) for node in data["nodes"].split(","))
    if store == "nats":
        return tuple(_server(url) for url in data["url"].split(","))
    primary = _node("host and port", f"{_host(data['host'])}:{data.get('port', POSTGRES_PORT)}")
    if "readHost" not in data and "readPort" not in data:
        return (primary,)
    host, port = data.get("readHost", data["host"]), data.get("readPort", data.get("port", POSTGRES_PORT))
    return primary, _node("readHost and readPort", f"{_host(host)}:{port}")


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _node(key: str, node: str) -> tuple[str, int]:
    found = _NODE.fullmatch(node)
    if not found or not 0 < int(found[2]) < 65536:
        raise Unusable(f"{key} must be host:port" + (", with commas between and no spaces" if key == "nodes" else ""))
    return found[1].strip("[]"), int(found[2])


def _server(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unusable("url must be nats://host:port") from None
    if parts.scheme != "nats" or not parts.hostname or parts.path:
        raise Unusable("url must be nats://host:port, several with commas between and no spaces")
    if parts.username is not None:
        raise Unusable("url must not hold a user or password; use the keys user and password")
    return parts.hostname, port or NATS_PORT
