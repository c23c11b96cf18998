"""Conditions as a function of what was seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from podium_operator.status import Condition, Health, Seen, conditions, merged

WHOLE = Health(ready=2, desired=2, rolled_out=True)
REDUCED = Health(ready=1, desired=2, rolled_out=True)
GONE = Health(ready=0, desired=2, rolled_out=True)


def _conditions(**changes: Any) -> dict[str, Condition]:
    values: dict[str, Any] = {
        "generation": 3,
        "components": {"redis": WHOLE, "scores": WHOLE},
        "target_is_applied": True,
        "target_is_good": True,
    }
    return {c.type: c for c in conditions(Seen(**{**values, **changes}))}


def test_everything_whole_is_ready() -> None:
    """Ready, nothing in progress, nothing degraded, a condition for each component."""
    found = _conditions()
    assert {name: c.status for name, c in found.items()} == {
        "Ready": "True", "Progressing": "False", "Degraded": "False", "Redis": "True", "Scores": "True",
    }  # fmt: skip
    assert {c.observed_generation for c in found.values()} == {3}


def test_a_generation_that_is_not_rolled_out_is_never_ready() -> None:
    """However healthy the pods of the old one are."""
    found = _conditions(target_is_good=False)
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "RollingOut")
    assert found["Progressing"].status == "True"


def test_a_missing_pod_degrades_but_serves() -> None:
    """One of two pods is enough to serve."""
    found = _conditions(components={"scores": REDUCED})
    assert (found["Ready"].status, found["Degraded"].status) == ("True", "True")
    assert found["Scores"].reason == "Reduced"


def test_a_component_without_pods_is_not_ready() -> None:
    """The condition names it."""
    found = _conditions(components={"scores": GONE, "redis": WHOLE})
    assert found["Ready"].status == "False"
    assert "scores" in found["Ready"].message


def test_a_store_that_does_not_serve_is_not_ready_although_its_pods_are() -> None:
    """A cluster without a leader cannot do its work."""
    found = _conditions(components={"postgres": Health(2, 2, True, problem="no leader", serving=False)})
    assert found["Ready"].status == "False"
    assert "no leader" in found["Postgres"].message


def test_a_rollback_is_said_in_all_three() -> None:
    """Not ready for this generation, degraded, no longer progressing."""
    found = _conditions(target_is_applied=False, rollback="scores made no progress")
    assert [found[t].status for t in ("Ready", "Progressing", "Degraded")] == ["False", "False", "True"]
    assert {found[t].reason for t in ("Ready", "Progressing", "Degraded")} == {"RolledBack"}


def test_pausing_hides_no_change() -> None:
    """A change that is held back is not shown as ready."""
    found = _conditions(paused=True, target_is_applied=False)
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "Paused")


def test_a_missing_client_secret_degrades() -> None:
    """The sentence reaches the status."""
    found = _conditions(problems=("client game: Secret x does not exist",))
    assert found["Ready"].status == "True"
    assert found["Degraded"].message == "client game: Secret x does not exist"


def test_transition_times_change_with_the_status_only() -> None:
    """A new message leaves the time, a new status moves it."""
    old = merged(_conditions().values(), [], datetime(2026, 1, 1, tzinfo=UTC))
    new = merged(_conditions(components={"scores": GONE}).values(), old, datetime(2026, 1, 2, tzinfo=UTC))
    times = {c["type"]: c["lastTransitionTime"] for c in new}
    assert times["Ready"] == "2026-01-02T00:00:00Z"
    assert times["Progressing"] == "2026-01-01T00:00:00Z"
