"""Why pods do not run, in a few words for a person. Pure.

Speaks of what a pod's status says (Kubernetes API, PodStatus): an image that is still being pulled is no trouble.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from podium_operator.spec import JSON

TEXT_LIMIT = 240
"""Characters of a pod's own message that are kept, from both ends: the image is at one, the cause at the other."""

UNSCHEDULABLE = "Unschedulable"
CRASHING = "CrashLoopBackOff"

BLOCKING = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        UNSCHEDULABLE,
    }
)
"""Reasons of pods that did not start (the kubelet's and the scheduler's own words)."""

_SECRETS = (
    (re.compile(r"(://)[^/@\s]+@"), r"\1…@"),
    (re.compile(r"(https?://[^\s?\"]+\?)[^\s\"]+"), r"\1…"),
    (re.compile(r"(?i)(\bbearer\s+)\S+"), r"\1…"),
    (re.compile(r"(?i)(\w*(?:password|passwd)\w*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"), r"\1…"),
    (re.compile(r"(?i)(\w*(?:token|secret|api_?key)\w*(?:\s*=\s*[\"']?|[\"']\s*:\s*[\"']))[^\s\"',;&]+"), r"\1…"),
)
"""What a message may quote and nobody should read: user and password or query of a URL, a token, a password."""


@dataclass(frozen=True)
class Trouble:
    """What keeps a pod from running."""

    reason: str
    """One CamelCase word, as Kubernetes has it."""
    message: str = ""
    """Short, on one line and without secrets."""

    @property
    def blocks(self) -> bool:
        """The pod never started, and does not just need more time."""
        return self.reason in BLOCKING

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason


def brief(text: str) -> str:
    """A message on one line, without secrets, the middle left out if it is long."""
    line = " ".join(text.split())
    for pattern, kept in _SECRETS:
        line = pattern.sub(kept, line)
    half = TEXT_LIMIT // 2
    return line if len(line) <= TEXT_LIMIT else f"{line[: half - 2]} … {line[-half + 1 :]}"


def newest_trouble(pods: Iterable[JSON]) -> Trouble | None:
    """The trouble of the newest pod that has one: it is of the newest template."""
    by_age = sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]), reverse=True)
    return next((found for pod in by_age if (found := trouble(pod))), None)


def trouble(pod: JSON) -> Trouble | None:
    """What keeps a pod from running, or why it failed; None if it runs, ended well, starts or was told to go."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") == "Succeeded":
        return None
    for condition in status.get("conditions", []):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == UNSCHEDULABLE:
            # What preempting other pods would bring says the same once more.
            return Trouble(UNSCHEDULABLE, brief(condition.get("message", "").partition(" preemption:")[0]))
    if status.get("phase") == "Failed" and status.get("reason"):
        return Trouble(status["reason"], brief(status.get("message", "")))
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        found = _container_trouble(container)
        if found:
            return found
    return None


def _container_trouble(container: JSON) -> Trouble | None:
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    reason = waiting.get("reason", "")
    if reason in BLOCKING:
        return Trouble(reason, brief(waiting.get("message", "")))
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    if not ended or container.get("ready") or (ended.get("exitCode") == 0 and reason != CRASHING):
        return None
    code = f"exit code {ended.get('exitCode')}"
    named = f"{code} ({ended['reason']})" if ended.get("reason") not in (None, "Error", "Completed") else code
    said = f"{named}: {ended['message']}" if ended.get("message") else named
    return Trouble(CRASHING if reason == CRASHING else "Crashed", brief(said))


def of_component(pods: Iterable[JSON], component: str) -> list[JSON]:
    """The pods of one component that are not at their end: one that was evicted has been replaced."""
    return [
        pod
        for pod in pods
        if pod["metadata"].get("labels", {}).get("app.kubernetes.io/component") == component
        and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
    ]


def owned_by(pods: Iterable[JSON], owner: JSON) -> list[JSON]:
    """The pods that a controller such as a Job made, not one of the same name before it."""
    uid = owner["metadata"]["uid"]
    return [pod for pod in pods if any(ref["uid"] == uid for ref in pod["metadata"].get("ownerReferences", []))]


def has_started(pod: JSON) -> bool:
    """Whether a container of the pod runs or ran."""
    return any(
        "running" in container.get("state", {}) or "terminated" in container.get("state", {})
        for container in pod.get("status", {}).get("containerStatuses", [])
    )
