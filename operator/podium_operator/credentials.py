"""Makes and reads the Secrets of a Scoreboard. Does I/O; what is in them is decided in `secret_data`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from podium_operator import external, recorder, secret_data
from podium_operator.builders import purge
from podium_operator.builders.base import External, checksum, labels
from podium_operator.cluster import SECRET, Cluster
from podium_operator.objects import contains, owner_reference
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
    """Make what is missing, derive what depends on others, and say what the user has to mend.

    Raises Conflict if a Secret was made by another in between; what is stored then counts on the next call.
    """
    found = Credentials()
    for store, wanted in external.wanted(spec).items():
        found.external[store] = await _external(cluster, scoreboard, store, wanted.secret_ref.name)
    found.problems += [f"{store}: {each.problem}" for store, each in found.external.items() if each.problem]
    found.problems += await _purge(cluster, scoreboard, spec)
    stored = await _generated(
        cluster, scoreboard, spec, [each for each in secret_data.GENERATED if each not in found.external]
    )
    for suffix, data in stored.items():
        found.note(suffix, data)
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


async def _purge(cluster: Cluster, scoreboard: JSON, spec: ScoreboardSpec) -> list[str]:
    """What is wrong with the token of the CDN's purge API, which the pods read for themselves."""
    if spec.cdn.purge is None:
        return []
    source = await cluster.get(SECRET, scoreboard["metadata"]["namespace"], spec.cdn.purge.secret_ref.name)
    problem = purge.problem(spec, secret_data.decode(source.get("data")) if source else None)
    return [problem] if problem else []


def _metadata(scoreboard: JSON, suffix: str, owned: bool, annotations: Mapping[str, str] | None = None) -> JSON:
    name, namespace = scoreboard["metadata"]["name"], scoreboard["metadata"]["namespace"]
    meta: JSON = {"name": f"{name}-{suffix}", "namespace": namespace, "labels": labels(name, COMPONENT)}
    if owned:
        meta["ownerReferences"] = [owner_reference(scoreboard)]
    if annotations:
        meta["annotations"] = dict(annotations)
    return meta


async def _generated(
    cluster: Cluster, scoreboard: JSON, spec: ScoreboardSpec, suffixes: list[str]
) -> dict[str, dict[str, str]]:
    """The data of the Secrets that are made once, by suffix.

    Each value is stored twice, in its own Secret and in the copy, and either is made again from the other. A value
    that was changed by hand is followed: the copy always holds what is in use.
    """
    namespace = scoreboard["metadata"]["namespace"]
    metas = {suffix: _metadata(scoreboard, suffix, _is_owned(spec, suffix)) for suffix in suffixes}
    # The copy goes with the Scoreboard under any policy: it is filled again from a Secret that was retained.
    copy_meta = _metadata(scoreboard, secret_data.COPY, owned=True)
    copy, *found = await asyncio.gather(
        *(cluster.get(SECRET, namespace, meta["name"]) for meta in (copy_meta, *metas.values()))
    )
    live = dict(zip(metas, found, strict=True))
    kept = _values(copy) or {}
    stored = {suffix: secret_data.completed(suffix, _values(live[suffix]), kept) for suffix in suffixes}
    # The copy comes first: were the pass cut off, nothing that a store may have learnt would be lost.
    await _keep(cluster, copy_meta, copy, secret_data.copied(stored))
    for suffix, meta in metas.items():
        await _keep(cluster, meta, live[suffix], stored[suffix])
        if live[suffix] is None and any(name.startswith(f"{suffix}.") for name in kept):
            note = f"Secret {meta['name']} was missing and has been made again with the same content"
            await recorder.record(cluster, scoreboard, "Warning", "Restored", note, "Restore")
    return stored


def _is_owned(spec: ScoreboardSpec, suffix: str) -> bool:
    return spec.deletion_policy == "Delete" or suffix not in secret_data.RETAINED


def _values(secret: JSON | None) -> dict[str, str] | None:
    return None if secret is None else secret_data.decode(secret.get("data"))


async def _keep(cluster: Cluster, meta: JSON, live: JSON | None, data: Mapping[str, str]) -> None:
    """Make a Secret, or mend of it what is not as it should be; keys of others stay."""
    namespace, name = meta["namespace"], meta["name"]
    encoded = secret_data.encode(data)
    body: JSON = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": meta, "data": encoded}
    if live is not None:
        references, owners = live["metadata"].get("ownerReferences", []), meta.get("ownerReferences", [])
        labelled = contains(live["metadata"].get("labels", {}), meta["labels"])
        if labelled and references == owners and contains(live.get("data", {}), encoded):
            return
        patch = {"metadata": {"labels": meta["labels"], "ownerReferences": owners or None}, "data": encoded}
        if await cluster.merge_if_there(SECRET, namespace, name, patch) is not None:
            return
    await cluster.create(SECRET, namespace, body)


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
