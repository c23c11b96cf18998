"""Revisions: what was rendered for a Scoreboard, kept as ControllerRevisions. Pure; `reconcile` reads and writes them.

A recorded revision is why an unchanged spec restarts nothing under a newer operator, and what a failed roll-out
goes back to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podium_operator.builders.base import checksum, labels
from podium_operator.components import Rendered
from podium_operator.objects import owner_reference
from podium_operator.spec import JSON

COMPONENT = "revision"
GOOD = "podium.dev/rolled-out"
"""Annotation: the number that the revision had when it was last rolled out completely."""

FAILED = "podium.dev/failed"
"""Annotation: why the roll-out of the revision was given up."""

FAILED_GENERATION = "podium.dev/failed-generation"
"""Annotation: generation of the spec with which it failed; a newer generation tries again."""

BLOCKED_SINCE = "podium.dev/migration-blocked-since"
"""Annotation: since when (RFC 3339) the pod of its migration cannot start; absent while nothing keeps it."""

KEPT = 5
"""Revisions that are kept, besides the last good one."""


@dataclass(frozen=True)
class Revision:
    """One recorded rendering."""

    name: str
    number: int
    version: str
    url: str
    components: Mapping[str, Rendered]
    good_number: int = 0
    failed: str = ""
    failed_generation: int = 0
    blocked_since: str = ""

    @property
    def good(self) -> bool:
        """It was rolled out completely once."""
        return self.good_number > 0

    @property
    def complete(self) -> bool:
        """It was rolled out completely since it became the newest."""
        return self.good_number == self.number

    def objects(self) -> list[JSON]:
        """All objects, in the order in which they are applied."""
        return [item for component in self.components.values() for item in component.objects]

    def has_failed(self, generation: int) -> bool:
        """Whether it was given up for this generation of the spec."""
        return bool(self.failed) and self.failed_generation >= generation

    def may_be_retried(self, generation: int) -> bool:
        """Whether it was given up for an earlier generation of the spec than this one."""
        return bool(self.failed) and self.failed_generation < generation


def named(scoreboard: str, version: str, url: str, components: Mapping[str, Rendered], number: int) -> Revision:
    """A revision with its name, which holds a checksum of all that it renders."""
    content = checksum([version, {name: [part.key, part.objects] for name, part in components.items()}])
    return Revision(f"{scoreboard}-{content[:10]}", number, version, url, components)


def to_object(revision: Revision, scoreboard: JSON) -> JSON:
    """The ControllerRevision of a revision."""
    meta = scoreboard["metadata"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": revision.name,
            "namespace": meta["namespace"],
            "labels": labels(meta["name"], COMPONENT),
            "ownerReferences": [owner_reference(scoreboard)],
        },
        "revision": revision.number,
        "data": {
            "version": revision.version,
            "url": revision.url,
            "components": {
                name: {"key": part.key, "objects": part.objects} for name, part in revision.components.items()
            },
            "order": list(revision.components),
        },
    }


def from_object(item: JSON) -> Revision:
    """The revision that a ControllerRevision holds. Raises KeyError if it holds none."""
    data = item["data"]
    annotations = item["metadata"].get("annotations", {})
    parts = data["components"]
    return Revision(
        name=item["metadata"]["name"],
        number=item["revision"],
        version=data["version"],
        url=data["url"],
        components={name: Rendered(parts[name]["key"], parts[name]["objects"]) for name in data["order"]},
        good_number=int(annotations.get(GOOD, "0")),
        failed=annotations.get(FAILED, ""),
        failed_generation=int(annotations.get(FAILED_GENERATION, "0")),
        blocked_since=annotations.get(BLOCKED_SINCE, ""),
    )


def newest(revisions: Iterable[Revision]) -> Revision | None:
    """The revision that was made last."""
    return max(revisions, key=lambda revision: revision.number, default=None)


def last_good(revisions: Iterable[Revision], besides: Revision | None = None) -> Revision | None:
    """The newest revision that was rolled out completely, besides one that has just failed."""
    others = (revision for revision in revisions if besides is None or revision.name != besides.name)
    return newest(revision for revision in others if revision.good)


def superfluous(revisions: Iterable[Revision]) -> list[Revision]:
    """Old revisions that nothing needs any more."""
    by_age = sorted(revisions, key=lambda revision: revision.number, reverse=True)
    good = last_good(by_age)
    return [revision for revision in by_age[KEPT:] if revision is not good]
