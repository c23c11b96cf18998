"""What Patroni writes while its Scoreboard goes away."""

from __future__ import annotations

from podium_operator.cluster import CONFIG_MAP
from podium_operator.leftovers import PATRONI, sweep
from podium_operator.spec import JSON
from tests.integration.operator.world import USER, World


async def test_only_leftovers_of_gone_scoreboards_are_swept(world: World) -> None:
    """One of a Scoreboard that exists, one of a Scoreboard that is gone, and somebody else's."""
    for name, labels in {
        "kept-postgres-sync": {**PATRONI, "app.kubernetes.io/instance": "kept"},
        "gone-postgres-sync": {**PATRONI, "app.kubernetes.io/instance": "gone"},
        "foreign": {"app.kubernetes.io/component": "postgres"},
    }.items():
        meta = {"name": name, "namespace": world.namespace, "labels": labels}
        item: JSON = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
        await world.admin.apply(CONFIG_MAP, item, manager=USER)
    await sweep(world.operator, world.namespace, {(world.namespace, "kept")})
    left = {item["metadata"]["name"] for item in await world.admin.find(CONFIG_MAP, world.namespace)}
    assert {"kept-postgres-sync", "foreign"} <= left
    assert "gone-postgres-sync" not in left
