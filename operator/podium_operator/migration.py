"""How the migration of a revision goes, from its Job and the Job's pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from podium_operator import pods
from podium_operator.builders.services import PROGRESS_DEADLINE_SECONDS
from podium_operator.objects import job_state
from podium_operator.pods import Trouble
from podium_operator.spec import JSON

STALL_SECONDS = PROGRESS_DEADLINE_SECONDS
"""A migration whose pod cannot start for this long has failed, as a Deployment that makes no progress."""


@dataclass(frozen=True)
class Migration:
    """A Job as it was seen."""

    name: str
    state: str
    """`complete`, `failed` or `running`."""
    trouble: Trouble | None = None

    @property
    def blocked(self) -> bool:
        """Its pod cannot start."""
        return self.state == "running" and self.trouble is not None and self.trouble.blocks

    @property
    def cause(self) -> str:
        """What is wrong, or an empty text."""
        return str(self.trouble) if self.trouble and self.state != "complete" else ""

    @property
    def sentence(self) -> str:
        """What a roll-out that waits for it says; empty once it is complete."""
        if self.state == "complete":
            return ""
        verb = "cannot start" if self.blocked else "is tried again" if self.trouble else "is running"
        said = f"migration {self.name} {'failed' if self.state == 'failed' else verb}"
        return f"{said}: {self.cause}" if self.cause else said


def seen(job: JSON, all_pods: Iterable[JSON]) -> Migration:
    """The migration that a Job makes."""
    state = job_state(job)
    trouble = pods.newest_trouble(pods.owned_by(all_pods, job))
    if state == "failed" and trouble is None:  # its pods are gone
        trouble = next(
            (
                Trouble(condition.get("reason", "Failed"), pods.brief(condition.get("message", "")))
                for condition in job["status"]["conditions"]
                if condition.get("type") == "Failed" and condition.get("status") == "True"
            ),
            None,
        )
    return Migration(job["metadata"]["name"], state, trouble)


def never_started(job: JSON, all_pods: Iterable[JSON]) -> bool:
    """Whether the Job still tries to start its first pod: it has no log, and nothing is cut off without it."""
    ended = job.get("status", {}).get("failed", 0) or job.get("status", {}).get("succeeded", 0)
    own = pods.owned_by(all_pods, job)
    return job_state(job) == "running" and not ended and not any(pods.has_started(pod) for pod in own)


def now() -> str:
    """The time for an annotation (RFC 3339, UTC)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_over(since: str) -> bool:
    """Whether a pod that could not start since then (RFC 3339, or empty) was given all its time."""
    return bool(since) and (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() >= STALL_SECONDS
