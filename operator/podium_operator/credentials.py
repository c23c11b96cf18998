"""Makes and reads the Secrets of a Scoreboard. Does I/O; what is in them is decided in `secret_data`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from podium_operator import external, secret_data
from podium_operator.builders.base import External, checksum, labels
from podium_operator.cluster import SECRET, Cluster, Conflict
from podium_operator.objects import owner_reference
from podium_operator.spec import JSON, ScoreboardSpec

COMPONENT = "secrets"


@dataclass
class Credentials:
    """The Secrets as they are."""

    checksums: dict[str, str] = field(default_factory=dict)
    """Checksum of the data by suffix."""
    redis_password: str = ""
    """Password of the operator's own Redis Cluster."""
    external: dict[str, External] = field(default_factory=dict)
    """External stores by component."""
    problems: list[str] = field(default_factory=list)
    """Sentences about Secrets that the user has to mend."""

    def note(self, suffix: str, data: Mapping[str, str]) -> None:
        """Remember the checksum of a Secret's data."""
        self.checksums[suffix] = checksum(dict(data))


async def ensure(cluster: Cluster, scoreboard: JSON, spec: ScoreboardSpec) -> Credentials:
    """Make what is missing, derive what depends on others, and say what the user has to mend."""
    found = Credentials()
    stored: dict[str, dict[str, str]] = {}
    for store, wanted in external.wanted(spec).items():
        found.external[store] = await _external(cluster, scoreboard, store, wanted.secret_ref.name)
    found.problems += [f"{store}: {each.problem}" for store, each in found.external.items() if each.problem]
    for suffix in secret_data.GENERATED:
        if suffix in found.external:
            continue
        stored[suffix] = await _generated(cluster, scoreboard, spec, suffix)
        found.note(suffix, stored[suffix])
    found.redis_password = stored.get("redis", {}).get("password", "")
    public = {"jwks.json": secret_data.public_keys(stored["jwt"]["keys.json"])}
    await _derived(cluster, scoreboard, "jwks", public)
    found.note("jwks", public)
    found.note("clients", await _clients(cluster, scoreboard, spec, found.problems))
    return found


async def _external(cluster: Cluster, scoreboard: JSON, store: str, name: str) -> External:
    """An external store, from the user's Secret."""
    source = await cluster.get(SECRET, scoreboard["metadata"]["namespace"], name)
    return external.read(store, name, secret_data.decode(source.get("data")) if source else None)


def _metadata(scoreboard: JSON, suffix: str, owned: bool, annotations: Mapping[str, str] | None = None) -> JSON:
    name, namespace = scoreboard["metadata"]["name"], scoreboard["metadata"]["namespace"]
    meta: JSON = {"name": f"{name}-{suffix}", "namespace": namespace, "labels": labels(name, COMPONENT)}
    if owned:
        meta["ownerReferences"] = [owner_reference(scoreboard)]
    if annotations:
        meta["annotations"] = dict(annotations)
    return meta


async def _generated(cluster: Cluster, scoreboard: JSON, spec: ScoreboardSpec, suffix: str) -> dict[str, str]:
    """The data of a Secret that is made once. Only its metadata is kept in shape afterwards."""
    owned = spec.deletion_policy == "Delete" or suffix not in secret_data.RETAINED
    meta = _metadata(scoreboard, suffix, owned)
    live = await cluster.get(SECRET, meta["namespace"], meta["name"])
    if live is None:
        fresh = secret_data.encode(secret_data.generated()[suffix])
        body: JSON = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": meta, "data": fresh}
        try:
            live = await cluster.create(SECRET, meta["namespace"], body)
        except Conflict:  # made in between; what is stored counts
            live = await cluster.get(SECRET, meta["namespace"], meta["name"]) or body
    data = secret_data.decode(live.get("data"))
    whole = secret_data.completed(suffix, data)
    references = live["metadata"].get("ownerReferences", [])
    wanted = meta.get("ownerReferences", [])
    if whole is not None or references != wanted:
        patch: JSON = {"metadata": {"ownerReferences": wanted or None}}
        if whole is not None:
            patch["data"] = secret_data.encode(whole)
        await cluster.merge(SECRET, meta["namespace"], meta["name"], patch)
    return whole or data


async def _derived(
    cluster: Cluster,
    scoreboard: JSON,
    suffix: str,
    data: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> None:
    """Apply a Secret that follows from others, if it is not as it should be."""
    meta = _metadata(scoreboard, suffix, owned=True, annotations=annotations)
    live = await cluster.get(SECRET, meta["namespace"], meta["name"])
    same = live is not None and secret_data.decode(live.get("data")) == dict(data)
    if live is None or not same or live["metadata"].get("ownerReferences") != meta["ownerReferences"]:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": meta,
            "data": secret_data.encode(data),
        }
        await cluster.apply(SECRET, body)


async def _clients(cluster: Cluster, scoreboard: JSON, spec: ScoreboardSpec, problems: list[str]) -> Mapping[str, str]:
    """`<sb>-clients` with the hashes of the clients' secrets; made anew only when one of them has changed.

    A client whose Secret is missing is left out and cannot authenticate until the Secret is there.
    """
    name, namespace = scoreboard["metadata"]["name"], scoreboard["metadata"]["namespace"]
    known: dict[str, tuple[str, list[str]]] = {}
    sources: dict[str, list[str]] = {}
    for client in spec.security.clients:
        source = await cluster.get(SECRET, namespace, client.secret_ref.name)
        try:
            value = secret_data.client_secret(client, secret_data.decode(source.get("data")) if source else None)
        except secret_data.ClientSecretProblem as problem:
            problems.append(str(problem))
            continue
        assert source is not None
        known[client.name] = (value, list(client.scopes))
        sources[client.name] = [source["metadata"]["uid"], source["metadata"]["resourceVersion"], *client.scopes]
    fingerprint = json.dumps(sources, sort_keys=True)
    live = await cluster.get(SECRET, namespace, f"{name}-clients")
    if live is not None and live["metadata"].get("annotations", {}).get(secret_data.SOURCES) == fingerprint:
        data = secret_data.decode(live.get("data"))
    else:
        data = {"clients.json": secret_data.clients_file(known)}
    await _derived(cluster, scoreboard, "clients", data, {secret_data.SOURCES: fingerprint})
    return data
