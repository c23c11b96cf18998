"""Which cluster is meant: one per checkout and `PODIUM_INSTANCE`, with names, addresses and ports of its own."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from podium_dev import cache
from podium_dev.console import StageError
from podium_dev.toolchain import REPOSITORY

_FIRST_NETWORK = 128
_NETWORKS = 64
_MAX_SOCKET_PATH = 107
"""Bytes that fit into sockaddr_un.sun_path (unix(7))."""
_FIRST_PORT = 20_000
_PORT_SPAN = 8_000


@dataclass
class Instance:
    """Names and addresses of one local cluster. Each gets a /16 that no route of the host overlaps."""

    id: str
    network: int
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The directory of everything this instance writes outside the cache."""
        return state_root() / self.id

    @property
    def netns(self) -> str:
        """Name of the network namespace, for `ip netns`."""
        return f"podium-{self.id}"

    @property
    def host_link(self) -> str:
        """The host's end of the veth pair (at most 15 characters)."""
        return f"pdm{self.id}h"

    @property
    def node_link(self) -> str:
        """The node's end of the veth pair."""
        return f"pdm{self.id}n"

    @property
    def cgroup(self) -> str:
        """The cgroup under which the node and all pods run, relative to each hierarchy's root."""
        return f"podium-{self.id}"

    @property
    def cidr(self) -> str:
        """Everything of this instance: pods, Services and the link to the host."""
        return f"10.{self.network}.0.0/16"

    @property
    def pod_cidr(self) -> str:
        """Addresses of pods."""
        return f"10.{self.network}.0.0/18"

    @property
    def service_cidr(self) -> str:
        """Addresses of Services."""
        return f"10.{self.network}.64.0/18"

    @property
    def dns_address(self) -> str:
        """ClusterIP of the cluster's DNS."""
        return f"10.{self.network}.64.10"

    @property
    def host_address(self) -> str:
        """The host's address on the link."""
        return f"10.{self.network}.128.1"

    @property
    def node_address(self) -> str:
        """The node's address on the link."""
        return f"10.{self.network}.128.2"

    @property
    def node_name(self) -> str:
        """Name of the Kubernetes node."""
        return f"podium-{self.id}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, usable from the host."""
        return self.state / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """containerd's socket, reachable from the host."""
        return self.state / "run" / "containerd.sock"

    def log(self, name: str) -> Path:
        """The log file of a process or stage."""
        return self.state / "log" / f"{name}.log"

    def port(self, name: str) -> int:
        """A free port on 127.0.0.1 for `name`: chosen once, the same again after a restart as far as it is free."""
        if name not in self.ports:
            seed = int(hashlib.sha256(f"{self.id}/{name}".encode()).hexdigest(), 16)
            self.ports[name] = _free_port(seed, set(self.ports.values()))
            self.save()
        return self.ports[name]

    def save(self) -> None:
        """Remember the choice of network and ports."""
        self.state.mkdir(parents=True, exist_ok=True)
        temporary = self.state / ".instance.json.tmp"
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(self.state / "instance.json")


def state_root() -> Path:
    """`$PODIUM_STATE`, else `/var/lib/podium`, or below the home directory for anybody but root."""
    default = Path("/var/lib/podium") if os.geteuid() == 0 else Path.home() / ".local" / "state" / "podium"
    return Path(os.environ.get("PODIUM_STATE") or default).resolve()


def instance_id(checkout: Path, suffix: str) -> str:
    """Eight hexadecimal digits that differ between checkouts and between values of `PODIUM_INSTANCE`."""
    return hashlib.sha256(f"{checkout.resolve()}\0{suffix}".encode()).hexdigest()[:8]


def current_id() -> str:
    """The id of this checkout's instance, as `PODIUM_INSTANCE` says."""
    return instance_id(REPOSITORY, os.environ.get("PODIUM_INSTANCE", ""))


def load() -> Instance | None:
    """The instance of this checkout if it has a state directory that can be read."""
    return _read(state_root() / current_id())


def load_or_create() -> Instance:
    """The instance of this checkout; a new one gets a network that nothing on the host uses.

    Raises StageError if no network is free or the state directory's path is too long for Unix sockets.
    """
    with cache.locked(state_root() / ".lock"):
        existing = load()
        if existing is not None:
            return existing
        taken = {other.network for path in state_root().iterdir() if (other := _read(path)) is not None}
        created = Instance(current_id(), choose_network(taken, parse_routes(Path("/proc/net/route").read_text())))
        if len(str(created.containerd_socket) + ".ttrpc") > _MAX_SOCKET_PATH:
            raise StageError(
                f"the path {created.state} is too long for Unix sockets; set PODIUM_STATE to a shorter one"
            )
        created.save()
        return created


@contextmanager
def exclusively(instance: Instance) -> Iterator[None]:
    """Hold the instance: a second `up` or `down` of the same checkout waits for the first."""
    with cache.locked(state_root() / f".{instance.id}.lock", "another run works on this instance; waiting for it"):
        yield


def choose_network(taken: Iterable[int], routes: Iterable[str]) -> int:
    """The lowest n for which 10.n.0.0/16 is neither taken nor overlapped by one of `routes` (CIDRs).

    Raises StageError if there is none.
    """
    used = set(taken)
    networks = [ipaddress.ip_network(route, strict=False) for route in routes]
    for number in range(_FIRST_NETWORK, _FIRST_NETWORK + _NETWORKS):
        candidate = ipaddress.ip_network(f"10.{number}.0.0/16")
        if number not in used and not any(candidate.overlaps(network) for network in networks):
            return number
    raise StageError("no network 10.128.0.0/16 … 10.191.0.0/16 is free on this machine")


def parse_routes(table: str) -> list[str]:
    """Destinations in `/proc/net/route` (proc(5): addresses in hexadecimal, host byte order), without the default."""
    rows = [line.split() for line in table.splitlines()[1:]]
    pairs = [(_address(row[1]), _address(row[7])) for row in rows if len(row) > 7]
    return [f"{destination}/{mask}" for destination, mask in pairs if mask != "0.0.0.0"]


def _address(hexadecimal: str) -> str:
    return socket.inet_ntoa(int(hexadecimal, 16).to_bytes(4, sys.byteorder))


def _read(path: Path) -> Instance | None:
    try:
        content = json.loads((path / "instance.json").read_text())
        return Instance(**content) if content["id"] == path.name else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _free_port(seed: int, taken: set[int]) -> int:
    for offset in range(_PORT_SPAN):
        port = _FIRST_PORT + (seed + offset) % _PORT_SPAN
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StageError("no free port on 127.0.0.1")
