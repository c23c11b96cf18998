"""What to do to make one whole Redis Cluster of the nodes that are seen. Pure.

Every pod has a home shard: its ordinal divided by the shard's size. Neighbouring ordinals are the ones a scheduler puts
on different machines, so a primary and its replica lie apart. A rule for each kind of damage; `plan` is asked again
after its actions were done, until it has none.

Terms are those of the Redis Cluster specification (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SLOTS = 16384
"""Hash slots of a Redis Cluster."""


@dataclass(frozen=True)
class Peer:
    """A node as some node sees it: one line of CLUSTER NODES."""

    node_id: str
    address: str
    """IP address, or empty if it is not known."""
    flags: frozenset[str]
    primary_id: str | None
    slots: frozenset[int]

    @property
    def is_primary(self) -> bool:
        return "master" in self.flags


@dataclass(frozen=True)
class Node:
    """A node that answers, and what it sees."""

    pod: str
    node_id: str
    announced: str
    """The address it announces."""
    peers: Mapping[str, Peer]
    """By node id, itself included."""
    state_ok: bool
    """Its `cluster_state`."""
    link_up: bool
    """It is a primary, or in step with its primary."""
    copies: str
    """The address from which it copies; empty for a primary."""

    @property
    def self_view(self) -> Peer:
        return self.peers[self.node_id]


@dataclass(frozen=True)
class Announce:
    """Make `pod` announce `address`."""

    pod: str
    address: str


@dataclass(frozen=True)
class Meet:
    """Let `pod` make the acquaintance of the node at `address`."""

    pod: str
    address: str


@dataclass(frozen=True)
class AddSlots:
    """Give `pod` slots that nobody owns."""

    pod: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Replicate:
    """Make `pod` a replica of a primary."""

    pod: str
    primary_id: str


@dataclass(frozen=True)
class TakeOver:
    """Make the replica `pod` the primary of its shard without a vote."""

    pod: str


@dataclass(frozen=True)
class Forget:
    """Let `pod` forget a node that will not come back."""

    pod: str
    node_id: str


Action = Announce | Meet | AddSlots | Replicate | TakeOver | Forget


def parse_nodes(text: str) -> dict[str, Peer]:
    """The answer of CLUSTER NODES, by node id."""
    peers = {}
    for line in text.splitlines():
        node_id, endpoint, flags, primary, _ping, _pong, _epoch, _link, *slots = line.split()
        peers[node_id] = Peer(
            node_id=node_id,
            address=endpoint.split("@")[0].rpartition(":")[0],
            flags=frozenset(flags.split(",")),
            primary_id=None if primary == "-" else primary,
            slots=frozenset(_numbers(part for part in slots if not part.startswith("["))),
        )
    return peers


def slot_bounds(shards: int) -> list[int]:
    """First slot of each shard, and the end: shard i has the slots bounds[i] to bounds[i+1]-1."""
    return [SLOTS * shard // shards for shard in range(shards + 1)]


def plan(nodes: Sequence[Node], addresses: Mapping[str, str], shards: int) -> list[Action]:
    """What should be done now, the most basic first; an empty list if nothing can or need be done.

    `nodes` are those that answer; `addresses` are of all pods by name, in the order of their ordinals.
    """
    if not nodes:
        return []
    wrong = [Announce(n.pod, addresses[n.pod]) for n in nodes if n.announced != addresses[n.pod]]
    if wrong:
        return list(wrong)
    reference = max(nodes, key=lambda node: (len(_owned(node)), len(node.peers)))
    everyone = len(nodes) == len(addresses)
    if not _owned(reference) and not everyone:
        return []  # whoever is missing may be the one that holds the data
    strangers = _strangers(reference, nodes, addresses)
    if strangers and _owned(reference):
        return list(strangers)
    lost = _lost(reference, nodes, addresses)
    if lost:
        return _bury(lost, reference, nodes)
    return [*strangers, *_place(reference, nodes, addresses, shards)]


def shortcomings(nodes: Sequence[Node], addresses: Mapping[str, str], shards: int) -> list[str]:
    """Why the cluster is not whole, each reason in a few words; empty if it is."""
    found = []
    answering = {node.pod for node in nodes}
    missing = [pod for pod in addresses if pod not in answering]
    if missing:
        found.append(f"no answer from {', '.join(missing)}")
    if not nodes:
        return found
    reference = max(nodes, key=lambda node: (len(_owned(node)), len(node.peers)))
    free = SLOTS - len(_owned(reference))
    if free:
        found.append(f"{free} of {SLOTS} slots have no owner")
    failing = [node.pod for node in nodes if not node.state_ok]
    if failing:
        found.append(f"the cluster is down for {', '.join(failing)}")
    lagging = [node.pod for node in nodes if not node.link_up]
    if lagging:
        found.append(f"{', '.join(lagging)} not in step with its primary")
    for pods in _homes(addresses, shards):
        members = [node for node in nodes if node.pod in pods]
        if len(members) == len(pods) and sum(node.self_view.is_primary for node in members) != 1:
            found.append(f"{', '.join(pods)} should be one primary and its replicas")
    if any(set(node.peers) != {n.node_id for n in nodes} for node in nodes) and not missing:
        found.append("the nodes do not all know each other")
    return found


def _numbers(ranges: Iterable[str]) -> Iterable[int]:
    for part in ranges:
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    result: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if result and result[-1][1] == number - 1:
            result[-1] = (result[-1][0], number)
        else:
            result.append((number, number))
    return tuple(result)


def _owned(node: Node) -> frozenset[int]:
    return frozenset().union(*(peer.slots for peer in node.peers.values()))


def _homes(addresses: Mapping[str, str], shards: int) -> list[list[str]]:
    pods = list(addresses)
    size = len(pods) // shards
    return [pods[shard * size : (shard + 1) * size] for shard in range(shards)]


def _strangers(reference: Node, nodes: Sequence[Node], addresses: Mapping[str, str]) -> list[Meet]:
    """Nodes that the reference does not know, or knows under an address that is no longer theirs."""
    meets = []
    for node in nodes:
        if node.pod == reference.pod:
            continue
        peer = reference.peers.get(node.node_id)
        if peer is None or peer.address != addresses[node.pod]:
            meets.append(Meet(reference.pod, addresses[node.pod]))
        elif reference.node_id not in node.peers:
            meets.append(Meet(node.pod, addresses[reference.pod]))
    return meets


def _lost(reference: Node, nodes: Sequence[Node], addresses: Mapping[str, str]) -> list[Peer]:
    """Nodes that cannot come back: another node answers at their address, or all pods answer and none of them is it."""
    alive = {node.node_id for node in nodes}
    replaced = {addresses[node.pod] for node in nodes}
    known = {peer.node_id: peer for node in (*nodes, reference) for peer in node.peers.values()}
    return [
        peer
        for peer in known.values()
        if peer.node_id not in alive
        and "handshake" not in peer.flags
        and (len(nodes) == len(addresses) or peer.address in replaced)
    ]


def _bury(lost: Sequence[Peer], reference: Node, nodes: Sequence[Node]) -> list[Action]:
    """A replica of a lost primary takes its slots; once nobody follows a lost node, all forget it."""
    heirs: list[Action] = []
    for peer in lost:
        followers = [node for node in nodes if node.self_view.primary_id == peer.node_id]
        if followers and reference.peers.get(peer.node_id, peer).slots:
            heirs.append(TakeOver(followers[0].pod))
    if heirs:
        return heirs
    gone = {peer.node_id for peer in lost}
    return [
        Forget(node.pod, node_id)
        for node in nodes
        for node_id in gone & set(node.peers)
        if node.self_view.primary_id != node_id
    ]


def _place(reference: Node, nodes: Sequence[Node], addresses: Mapping[str, str], shards: int) -> list[Action]:
    """Free slots to a node of their home shard, and every other node of the shard behind that one."""
    by_pod = {node.pod: node for node in nodes}
    owned = _owned(reference)
    bounds = slot_bounds(shards)
    actions: list[Action] = []
    for shard, pods in enumerate(_homes(addresses, shards)):
        wanted = range(bounds[shard], bounds[shard + 1])
        members = [by_pod[pod] for pod in pods if pod in by_pod]
        owners = [node for node in members if reference.peers.get(node.node_id, node.self_view).slots]
        free = [slot for slot in wanted if slot not in owned]
        if free and len(members) == len(pods):
            heir = next(iter(owners), None) or next((node for node in members if node.self_view.is_primary), None)
            if heir is not None:
                actions.append(AddSlots(heir.pod, _ranges(free)))
                continue  # its replicas follow in the next round, when they have heard of it
        if len(owners) != 1:
            continue
        owner = owners[0]
        actions += [
            Replicate(node.pod, owner.node_id)
            for node in members
            if node is not owner
            and not node.self_view.slots
            and owner.node_id in node.peers
            and owner.self_view.is_primary
            and (node.self_view.primary_id != owner.node_id or _copies_nobody(node, addresses[owner.pod]))
        ]
    return actions


def _copies_nobody(replica: Node, address: str) -> bool:
    """Whether a replica knows its primary under this address and still copies from another one.

    While a node starts its peers may know it by its pod's address. Who was killed in that moment remembers it, and
    Redis 7 does not connect to the new one if others tell of that first (clusterProcessGossipSection, cluster.c).
    """
    primary = replica.peers.get(replica.self_view.primary_id or "")
    return primary is not None and primary.address == address and replica.copies not in ("", address)
