"""The CronJob that maintains the log of actions."""

from __future__ import annotations

from typing import Any

from podium_operator.builders import maintenance, postgres
from podium_operator.builders.base import selector
from podium_operator.components import COMPONENTS, render
from podium_operator.spec import JSON
from tests.unit.operator.golden import inputs


def _cron_job(**changes: Any) -> JSON:
    (job,) = (item for item in maintenance.build(inputs(**changes)) if item["kind"] == "CronJob")
    return job


def _pod(job: JSON) -> JSON:
    pod: JSON = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return pod


def test_another_retention_changes_the_cron_job_only() -> None:
    """Nothing else is rendered anew for it, so nothing restarts, not even after an operator upgrade."""
    before, after = inputs(), inputs({"postgres": {"auditRetention": "30d"}})
    assert {part.name for part in COMPONENTS if part.key(before) != part.key(after)} == {"maintenance"}
    objects = [
        {(item["kind"], item["metadata"]["name"]): item for part in render(which, {}).values() for item in part.objects}
        for which in (before, after)
    ]
    assert [key for key in objects[0] if objects[0][key] != objects[1][key]] == [("CronJob", "arcade-maintenance")]


def test_the_retention_is_told_in_seconds() -> None:
    """As the program reads it."""
    for retention, seconds in ({"90d": 7776000, "36h": 129600}).items():
        (container,) = _pod(_cron_job(spec={"postgres": {"auditRetention": retention}}))["containers"]
        assert {"name": "PODIUM_AUDIT_RETENTION", "value": str(seconds)} in container["env"]
        assert container["command"][-3:] == ["-m", "podium.schema", "maintain"]


def test_it_runs_every_hour_and_never_beside_itself() -> None:
    """Scoreboards of one cluster do not all run in the same minute."""
    schedules = {_cron_job(name=name)["spec"]["schedule"] for name in ("arcade", "league", "quiz")}
    assert len(schedules) == 3
    for schedule in schedules:
        minute, rest = schedule.split(" ", 1)
        assert 0 <= int(minute) < 60
        assert rest == "* * * *"
    assert _cron_job()["spec"]["concurrencyPolicy"] == "Forbid"


def test_it_reaches_the_database_and_nothing_else() -> None:
    """No token, no other store, no way in; and the database lets it in."""
    account, policy, job = maintenance.build(inputs())
    assert account["automountServiceAccountToken"] is False
    assert _pod(job)["automountServiceAccountToken"] is False
    assert _pod(job)["securityContext"]["runAsNonRoot"] is True
    assert policy["spec"]["ingress"] == []
    (rule,) = policy["spec"]["egress"]
    assert rule["to"] == [{"podSelector": {"matchLabels": selector("arcade", "postgres")}}]
    (database,) = (item for item in postgres.build(inputs()) if item["kind"] == "NetworkPolicy")
    assert {"podSelector": {"matchLabels": selector("arcade", "maintenance")}} in database["spec"]["ingress"][0]["from"]
