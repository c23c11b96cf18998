"""What is done to a Redis Cluster in each situation; tests/integration/redis_cluster shows that it works."""

from dataclasses import replace

from podium_operator.stores.redis_plan import (
    SLOTS,
    AddSlots,
    Announce,
    Forget,
    Meet,
    Node,
    Peer,
    Replicate,
    TakeOver,
    parse_nodes,
    plan,
    shortcomings,
    slot_bounds,
)

ADDRESSES = {f"r-{ordinal}": f"10.0.0.{ordinal}" for ordinal in range(6)}
BOUNDS = slot_bounds(3)


def peer(ordinal: int, node_id: str | None = None) -> Peer:
    """The place that pod `ordinal` should have."""
    primary = ordinal - ordinal % 2
    leads = primary == ordinal
    shard = ordinal // 2
    return Peer(
        node_id=node_id or f"id-{ordinal}",
        address=f"10.0.0.{ordinal}",
        flags=frozenset({"master" if leads else "slave"}),
        primary_id=None if leads else f"id-{primary}",
        slots=frozenset(range(BOUNDS[shard], BOUNDS[shard + 1])) if leads else frozenset(),
    )


def node(ordinal: int, peers: dict[str, Peer]) -> Node:
    """The node of pod `ordinal` that sees these peers."""
    copies = "" if ordinal % 2 == 0 else f"10.0.0.{ordinal - 1}"
    return Node(f"r-{ordinal}", f"id-{ordinal}", f"10.0.0.{ordinal}", peers, state_ok=True, link_up=True, copies=copies)


def whole() -> list[Node]:
    """A cluster as it should be."""
    peers = {f"id-{ordinal}": peer(ordinal) for ordinal in range(6)}
    return [node(ordinal, peers) for ordinal in range(6)]


def empty(ordinal: int, node_id: str | None = None) -> Node:
    """A new node that knows only itself."""
    name = node_id or f"id-{ordinal}"
    alone = Peer(name, f"10.0.0.{ordinal}", frozenset({"myself", "master"}), None, frozenset())
    return Node(f"r-{ordinal}", name, f"10.0.0.{ordinal}", {name: alone}, state_ok=False, link_up=True, copies="")


def test_a_whole_cluster_is_left_alone() -> None:
    """Nothing to do, nothing to complain about."""
    assert plan(whole(), ADDRESSES, 3) == []
    assert shortcomings(whole(), ADDRESSES, 3) == []


def test_empty_nodes_meet_and_the_first_of_each_shard_gets_its_slots() -> None:
    """The first round of a new cluster."""
    actions = plan([empty(ordinal) for ordinal in range(6)], ADDRESSES, 3)
    assert {action.address for action in actions if isinstance(action, Meet)} == {f"10.0.0.{n}" for n in range(1, 6)}
    assert [action for action in actions if isinstance(action, AddSlots)] == [
        AddSlots("r-0", ((BOUNDS[0], BOUNDS[1] - 1),)),
        AddSlots("r-2", ((BOUNDS[1], BOUNDS[2] - 1),)),
        AddSlots("r-4", ((BOUNDS[2], SLOTS - 1),)),
    ]


def test_empty_nodes_wait_for_the_missing_one() -> None:
    """The missing one may hold the data."""
    assert plan([empty(ordinal) for ordinal in range(5)], ADDRESSES, 3) == []


def test_a_node_that_is_only_away_is_not_forgotten() -> None:
    """A pod that restarts comes back as who it was."""
    assert plan(whole()[:5], ADDRESSES, 3) == []
    assert shortcomings(whole()[:5], ADDRESSES, 3) == ["no answer from r-5"]


def test_a_wrong_announced_address_is_corrected_first() -> None:
    """Before anybody is told to meet it."""
    nodes = whole()
    nodes[1] = Node("r-1", "id-1", "10.9.9.9", nodes[1].peers, state_ok=True, link_up=True, copies="")
    assert plan(nodes, ADDRESSES, 3) == [Announce("r-1", "10.0.0.1")]


def test_a_replica_that_copies_from_an_address_of_yesterday_is_told_its_primary_again() -> None:
    """Once it knows where its primary is; before, it would only be told the wrong address again."""
    nodes = whole()
    nodes[1] = replace(nodes[1], copies="10.9.9.9")
    assert plan(nodes, ADDRESSES, 3) == [Replicate("r-1", "id-0")]
    yesterday = {**nodes[1].peers, "id-0": replace(peer(0), address="10.9.9.9")}
    nodes[1] = replace(nodes[1], peers=yesterday)
    assert plan(nodes, ADDRESSES, 3) == []


def test_a_replica_takes_over_from_a_primary_that_lost_its_volume() -> None:
    """The new node has met the others, the old id owns the slots still: first the heir, then the funeral."""
    fresh = Peer("new-0", "10.0.0.0", frozenset({"master"}), None, frozenset())
    peers = {**{f"id-{ordinal}": peer(ordinal) for ordinal in range(6)}, "new-0": fresh}
    nodes = [node(ordinal, peers) for ordinal in range(1, 6)]
    nodes.insert(0, Node("r-0", "new-0", "10.0.0.0", peers, state_ok=True, link_up=True, copies=""))
    assert plan(nodes, ADDRESSES, 3) == [TakeOver("r-1")]


def test_the_dead_id_is_forgotten_and_the_new_node_follows_the_heir() -> None:
    """After the take-over: Forget by all; after that: Replicate."""
    heir = Peer("id-1", "10.0.0.1", frozenset({"master"}), None, peer(0).slots)
    fresh = Peer("new-0", "10.0.0.0", frozenset({"master"}), None, frozenset())
    dead = Peer("id-0", "", frozenset({"master", "fail", "noaddr"}), None, frozenset())
    others = {f"id-{ordinal}": peer(ordinal) for ordinal in range(2, 6)}
    peers = {**others, "id-1": heir, "new-0": fresh, "id-0": dead}

    def nodes() -> list[Node]:
        made = [node(ordinal, peers) for ordinal in range(1, 6)]
        return [Node("r-0", "new-0", "10.0.0.0", peers, state_ok=True, link_up=True, copies=""), *made]

    assert plan(nodes(), ADDRESSES, 3) == [Forget(f"r-{ordinal}", "id-0") for ordinal in range(6)]
    del peers["id-0"]
    assert plan(nodes(), ADDRESSES, 3) == [Replicate("r-0", "id-1")]


def test_lines_of_cluster_nodes_are_understood() -> None:
    """Ranges, single slots, migrations, host names and unknown addresses."""
    text = (
        "aa 10.0.0.1:6379@16379,host myself,master - 0 0 1 connected 0-2 7 [93-<-bb]\n"
        "bb :0@0 slave,noaddr aa 0 0 1 disconnected\n"
    )
    nodes = parse_nodes(text)
    assert nodes["aa"].slots == {0, 1, 2, 7}
    assert nodes["aa"].address == "10.0.0.1"
    assert nodes["bb"] == Peer("bb", "", frozenset({"slave", "noaddr"}), "aa", frozenset())
