"""Kinds of others, served by the real API server while a test runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from podium_operator.cluster import Kind, Refused
from podium_operator.spec import JSON
from tests.integration.operator.world import USER, World

DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
SECONDS = 30
"""How long a kind may take to be served, and to be gone."""


@asynccontextmanager
async def served(world: World, schemas: Mapping[Kind, JSON]) -> AsyncIterator[None]:
    """Serve each kind with its OpenAPI schema inside the block."""
    names = []
    for kind, schema in schemas.items():
        group, version = kind.api_version.split("/")
        names.append(f"{kind.plural}.{group}")
        definition: JSON = {
            "apiVersion": DEFINITION.api_version,
            "kind": DEFINITION.kind,
            # Groups of Kubernetes' own ask for this; the others do not look at it.
            "metadata": {
                "name": names[-1],
                "annotations": {"api-approved.kubernetes.io": "unapproved, for tests only"},
            },
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower()},
                "versions": [
                    {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
                ],
            },
        }
        await world.admin.apply(DEFINITION, definition)
        await _until_served(world, kind)
    yield
    for name in names:
        await world.admin.delete(DEFINITION, None, name)
    async with asyncio.timeout(SECONDS):
        while {item["metadata"]["name"] for item in await world.admin.find(DEFINITION, None)} & set(names):
            await asyncio.sleep(0.1)


async def _until_served(world: World, kind: Kind) -> None:
    probe: JSON = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": "probe", "namespace": world.namespace},
    }
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await world.admin.apply(kind, probe, manager=USER)
            except Refused:
                await asyncio.sleep(0.1)
            else:
                return
