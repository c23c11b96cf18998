"""The status of a Scoreboard: its typed model, and the conditions as a function of what was seen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from podium_operator.spec import JSON

ConditionStatus = Literal["True", "False", "Unknown"]
MESSAGE_LIMIT = 1024
"""Characters of a condition's message that are kept."""


class StatusModel(BaseModel):
    """Base of the parts of the status."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Condition(StatusModel):
    """One aspect of the state, in the Kubernetes conventions."""

    type: str = Field(max_length=316, description="Aspect: Ready, Progressing, Degraded or the name of a component.")
    status: ConditionStatus = Field(description="Whether it holds.")
    observed_generation: int | None = Field(default=None, description="Generation of the spec that this is about.")
    last_transition_time: str | None = Field(
        default=None, description="When the status last changed.", json_schema_extra={"format": "date-time"}
    )
    reason: str = Field(max_length=1024, description="Reason in one CamelCase word.")
    message: str = Field(default="", max_length=32768, description="What a person should know.")


class ComponentStatus(StatusModel):
    """Pods of one component."""

    ready: int = Field(default=0, description="Pods that are ready.")
    desired: int = Field(default=0, description="Pods that should be ready.")


class ScoreboardStatus(StatusModel):
    """What the Scoreboard is."""

    observed_generation: int | None = Field(
        default=None, description="Newest generation of the spec that was acted on."
    )
    conditions: list[Condition] | None = Field(
        default=None,
        description="State by aspect.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    version: str | None = Field(default=None, description="Application version that runs.")
    current_revision: str | None = Field(default=None, description="Revision that is applied (a ControllerRevision).")
    last_good_revision: str | None = Field(default=None, description="Newest revision that was rolled out completely.")
    url: str | None = Field(default=None, description="Where the Scoreboard is reached.")
    players: int | None = Field(default=None, description="Players with a score.")
    connections: int | None = Field(default=None, description="Live connections (WebSocket and event stream).")
    components: dict[str, ComponentStatus] | None = Field(default=None, description="Pods by component.")


@dataclass(frozen=True)
class Health:
    """What was seen of one component."""

    ready: int
    desired: int
    rolled_out: bool
    """Whether all its pods are of the applied template."""
    problem: str = ""
    """What is wrong beyond missing pods, for a person."""
    serving: bool = True
    """False if it cannot do its work although pods are ready, such as a cluster without a leader."""
    failed: bool = False
    """Whether its roll-out made no progress for too long."""
    external: bool = False
    """Whether others run it: it has no pods to count."""

    @property
    def whole(self) -> bool:
        """Nothing is missing."""
        return self.rolled_out and self.ready >= self.desired and not self.problem

    @property
    def works(self) -> bool:
        """It does its work, perhaps with fewer pods than it should have."""
        return self.serving and (self.ready > 0 or self.desired == 0)


@dataclass(frozen=True)
class Seen:
    """All that the conditions are made from."""

    generation: int
    components: Mapping[str, Health]
    target_is_applied: bool
    """The applied objects are those of the spec, not of an earlier revision."""
    target_is_good: bool
    """They were rolled out completely once."""
    paused: bool = False
    rollback: str = ""
    """Why the last good revision was applied instead, if it was."""
    waiting: str = ""
    """What the roll-out waits for."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """Why pods do not run, by component; `migrate` is the migration."""
    problems: tuple[str, ...] = ()
    """Problems of the whole, such as a missing client Secret."""
    error: str = ""
    """Why nothing could be applied."""
    invalid: str = ""
    """What of the spec cannot work although the API server took it: nothing of this generation is applied."""


def _condition(kind: str, holds: bool, generation: int, reason: str, message: str = "") -> Condition:
    return Condition(
        type=kind,
        status="True" if holds else "False",
        observed_generation=generation,
        reason=reason,
        message=message[:MESSAGE_LIMIT],
    )


def _say(kind: str, generation: int) -> Callable[..., Condition]:
    """Makes conditions of one type and generation."""

    def say(holds: bool, reason: str, message: str = "") -> Condition:
        return _condition(kind, holds, generation, reason, message)

    return say


def _component_condition(name: str, health: Health, generation: int, cause: str) -> Condition:
    kind = COMPONENT_CONDITIONS.get(name, name[:1].upper() + name[1:])
    if health.external:
        said = health.problem or "run by others, and reached"
        return _condition(kind, health.serving, generation, "External", said)
    counted = f"{health.ready} of {health.desired} ready"
    message = "; ".join(filter(None, (counted, health.problem, cause)))
    if health.whole:
        return _condition(kind, True, generation, "Ready", message)
    if not health.works:
        return _condition(kind, False, generation, "NotReady", message)
    reason = "RollingOut" if not health.rolled_out else "Reduced" if health.ready < health.desired else "Problem"
    return _condition(kind, True, generation, reason, message)


COMPONENT_CONDITIONS = {"nats": "NATS", "ratelimit": "RateLimit"}
"""Condition types of components whose name is not simply capitalised."""


def conditions(seen: Seen) -> list[Condition]:
    """Ready, Progressing, Degraded and one for each component.

    Ready means: this generation has been rolled out, and every component does its work.
    Degraded means that something is missing or wrong, although it may work.
    """
    broken = sorted(name for name, health in seen.components.items() if not health.works)
    reduced = sorted(name for name, health in seen.components.items() if not health.whole)
    rolled_out = seen.target_is_applied and seen.target_is_good
    return [
        _ready(seen, rolled_out, broken),
        _progressing(seen, rolled_out),
        _degraded(seen, rolled_out, reduced),
        *(
            _component_condition(name, health, seen.generation, seen.causes.get(name, ""))
            for name, health in seen.components.items()
        ),
    ]


def _ready(seen: Seen, rolled_out: bool, broken: list[str]) -> Condition:
    say = _say("Ready", seen.generation)
    if seen.error:
        return say(False, "ReconcileFailed", seen.error)
    if seen.invalid:
        return say(False, "InvalidSpec", seen.invalid)
    if seen.rollback:
        return say(False, "RolledBack", seen.rollback)
    if seen.paused and not seen.target_is_applied:
        return say(False, "Paused", "spec.paused keeps the changes of this generation from being applied")
    if not rolled_out:
        return say(False, "RollingOut", seen.waiting or _unfinished(seen))
    if broken:
        return say(False, "ComponentsNotReady", f"not working: {', '.join(broken)}")
    return say(True, "Serving", "this generation is rolled out and all components work")


def _unfinished(seen: Seen) -> str:
    """What of this generation is not rolled out yet."""
    parts = [
        f"{name} ({health.ready} of {health.desired} ready{f'; {seen.causes[name]}' if name in seen.causes else ''})"
        for name, health in sorted(seen.components.items())
        if not health.whole
    ]
    return f"rolling out: {', '.join(parts)}" if parts else "rolling out"


def _progressing(seen: Seen, rolled_out: bool) -> Condition:
    say = _say("Progressing", seen.generation)
    if seen.paused:
        return say(False, "Paused", "spec.paused is set")
    if seen.invalid:
        return say(False, "InvalidSpec", seen.invalid)
    if seen.rollback:
        return say(False, "RolledBack", seen.rollback)
    if seen.waiting or not rolled_out:
        return say(True, "RollingOut", seen.waiting or _unfinished(seen))
    return say(False, "RolledOut", "this generation is rolled out")


def _degraded(seen: Seen, rolled_out: bool, reduced: list[str]) -> Condition:
    say = _say("Degraded", seen.generation)
    if seen.error:
        return say(True, "ReconcileFailed", seen.error)
    if seen.invalid:
        return say(True, "InvalidSpec", seen.invalid)
    if seen.rollback:
        return say(True, "RolledBack", seen.rollback)
    if seen.problems:
        return say(True, "ConfigurationProblem", "; ".join(seen.problems))
    failed = sorted(name for name, health in seen.components.items() if health.failed)
    if failed:
        return say(True, "RolloutFailed", f"no progress: {with_causes(failed, seen.causes)}")
    if not rolled_out and seen.causes:
        return say(True, "PodsFailing", f"pods do not run: {with_causes(sorted(seen.causes), seen.causes)}")
    if rolled_out and reduced:
        details = (f"{name} ({_missing(seen, name)})" for name in reduced)
        return say(True, "ComponentsReduced", f"not whole: {', '.join(details)}")
    return say(False, "AsExpected")


def _missing(seen: Seen, name: str) -> str:
    """What is wrong with a component that is not whole."""
    known = filter(None, (seen.components[name].problem, seen.causes.get(name)))
    return "; ".join(known) or "pods missing"


def with_causes(names: Iterable[str], causes: Mapping[str, str]) -> str:
    """Components in a sentence, each with why its pods do not run, as far as that is known."""
    named = [(name, causes.get(name, "")) for name in names]
    return ("; " if any(cause for _, cause in named) else ", ").join(f"{n}: {c}" if c else n for n, c in named)


def merged(new: Iterable[Condition], old: Iterable[JSON], now: datetime | None = None) -> list[JSON]:
    """The new conditions with the time of the last transition: kept where the status is as it was."""
    moment = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {item.get("type"): item for item in old}
    result = []
    for condition in new:
        previous = before.get(condition.type)
        same = previous is not None and previous.get("status") == condition.status
        since = previous.get("lastTransitionTime", moment) if same and previous is not None else moment
        result.append(
            condition.model_copy(update={"last_transition_time": since}).model_dump(by_alias=True, exclude_none=True)
        )
    return result
