"""What the server makes of an action: its boards and points, or why it is refused. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from podium.common.rules import Action, Board, Tier, tier_of
from podium.scores.domain_limits import MINUTE, SECOND, Limit

DATA_POINTER = "/actionMetadata/additionalData"
"""JSON pointer of the action's data in a request body."""

TYPE_POINTER = "/actionMetadata/type"
"""JSON pointer of the action's type in a request body."""

MAX_ERRORS = 16
"""Most validation errors that one answer lists."""

MAX_ERROR_CHARACTERS = 200
"""Longest text of one validation error, in characters."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an update counts nothing: the contract's slug, a sentence, JSON pointers with what is wrong there.

    ``retry_after`` (µs) and ``limit`` are set for ``rate-limited`` only.
    """

    slug: str
    detail: str
    errors: tuple[tuple[str, str], ...] = ()
    limit: Limit | None = None
    retry_after: int = 0


@dataclass(frozen=True, slots=True)
class Award:
    """What a valid action is worth: ``points`` on each of ``boards`` (never empty, the first one is answered)."""

    action_type: str
    points: int
    boards: tuple[Board, ...]
    limits: tuple[Limit, ...]
    """Cool-down and per-minute cap of this action type."""


@dataclass(frozen=True, slots=True)
class _Rule:
    action: Action
    boards: tuple[Board, ...]
    limits: tuple[Limit, ...]
    validator: jsonschema_rs.Validator | None
    award: Award | None
    """What the action is worth whatever its data, where it has fixed points."""


class Rules:
    """The compiled rules of one Scoreboard."""

    def __init__(
        self,
        boards: Sequence[Board],
        actions: Sequence[Action],
        tiers: Sequence[Tier],
        updates_per_user_per_minute: int = 10,
    ) -> None:
        """Compile; ValueError, naming the action, for rules that cannot work."""
        by_name = {board.name: board for board in boards}
        self._thresholds = sorted({tier.min_score for tier in tiers})
        self._tiers = [None, *(tier_of(tiers, threshold) for threshold in self._thresholds)]
        self.user_limit = Limit("user", updates_per_user_per_minute, MINUTE)
        self._rules: dict[str, _Rule] = {}
        for action in actions:
            unknown = [name for name in action.boards if name not in by_name]
            if unknown:
                raise ValueError(f"action {action.type!r}: unknown board {unknown[0]!r}")
            if (action.points is None) == (action.points_from is None):
                raise ValueError(f"action {action.type!r}: give either points or pointsFrom")
            if action.type in self._rules:
                raise ValueError(f"action {action.type!r} is given twice")
            target = tuple(by_name[name] for name in action.boards) or tuple(boards)
            limits = _limits(action)
            self._rules[action.type] = _Rule(
                action=action,
                boards=target,
                limits=limits,
                validator=_compile(action),
                award=None if action.points is None else Award(action.type, action.points, target, limits),
            )

    @property
    def action_types(self) -> frozenset[str]:
        """All known action types."""
        return frozenset(self._rules)

    def tier(self, score: int) -> str | None:
        """Name of the highest tier that ``score`` points reach, or None below the lowest."""
        return self._tiers[bisect_right(self._thresholds, score)]

    def assess(self, action_type: str, data: Any) -> Award | Refusal:
        """What an action with this ``additionalData`` is worth, or why it is refused."""
        rule = self._rules.get(action_type)
        if rule is None:
            return Refusal("unknown-action", "this action is not known here", ((TYPE_POINTER, "not a known action"),))
        errors = _schema_errors(rule.validator, data)
        if errors:
            return Refusal("invalid-action-data", "additionalData does not fit the action's schema", errors)
        if rule.award is not None:
            return rule.award
        points = _points(rule.action, data)
        if isinstance(points, Refusal):
            return points
        return Award(action_type, points, rule.boards, rule.limits)


def _limits(action: Action) -> tuple[Limit, ...]:
    limits = []
    if action.cooldown_seconds:
        limits.append(Limit(f"cooldown-{action.type}", 1, round(action.cooldown_seconds * SECOND)))
    if action.max_per_minute:
        limits.append(Limit(f"action-{action.type}", action.max_per_minute, MINUTE))
    return tuple(limits)


def _compile(action: Action) -> jsonschema_rs.Validator | None:
    if action.schema_ is None:
        return None
    try:
        # Offline: a $ref to a URL must not make this process fetch it.
        return jsonschema_rs.validator_for(action.schema_, offline=True, validate_formats=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"action {action.type!r}: its schema cannot be used: {error}") from error


def _schema_errors(validator: jsonschema_rs.Validator | None, data: Any) -> tuple[tuple[str, str], ...]:
    if validator is None or validator.is_valid(data):
        return ()
    errors = []
    for error in validator.iter_errors(data):
        errors.append((pointer(DATA_POINTER, *error.instance_path), error.message[:MAX_ERROR_CHARACTERS]))
        if len(errors) == MAX_ERRORS:
            break
    return tuple(errors)


def _points(action: Action, data: Any) -> int | Refusal:
    source = action.points_from
    assert source is not None
    value = data.get(source.field) if isinstance(data, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 12.0 is an integer in JSON Schema's sense, too
    if isinstance(value, bool) or not isinstance(value, int) or not source.min <= value <= source.max:
        text = f"must be an integer from {source.min} to {source.max}"
        return Refusal("invalid-action-data", f"{source.field} {text}", ((pointer(DATA_POINTER, source.field), text),))
    return value


def pointer(base: str, *parts: str | int) -> str:
    """JSON pointer (RFC 6901) from ``base`` on."""
    return base + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
