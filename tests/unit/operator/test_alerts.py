"""Alerting rules: what is rendered, and that every alert names metrics and a runbook that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from podium_operator.builders import alerts
from podium_operator.builders.services import ROLES
from podium_operator.components import COMPONENTS
from tests.unit.operator.golden import assert_golden, inputs

ROOT = Path(__file__).parents[3]
WANTED = {"observability": {"prometheusRules": True}}
EVERY = [*alerts.ALERTS, alerts.STANDBY_LOST]


def _known_metrics() -> set[str]:
    """Names of all series that the services have."""
    for service in ("common", "scores", "scoreboard", "analytics", "auth"):
        importlib.import_module(f"podium.{service}.metrics")
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {metric.name + suffix for metric in REGISTRY.collect() for suffix in suffixes.get(metric.type, ("",))}


def test_rendering_is_as_recorded() -> None:
    """The objects are those of the golden file."""
    assert_golden("alerts", alerts.build(inputs(WANTED)))


def test_nothing_is_made_unless_it_is_wanted() -> None:
    """The default makes no objects of kinds that a cluster may lack."""
    assert alerts.build(inputs({})) == []


@pytest.mark.parametrize("alert", EVERY, ids=lambda alert: alert.name)
def test_an_alert_watches_what_there_is(alert: alerts.Alert) -> None:
    """Each metric of its expression is one of the services, and is narrowed to the Scoreboard."""
    found = re.findall(r"\b(podium_[a-z_]+)(\{SB)?", alert.expression)
    assert found
    assert {name for name, _ in found} <= _known_metrics()
    assert all(narrowed for _, narrowed in found)


@pytest.mark.parametrize("alert", EVERY, ids=lambda alert: alert.name)
def test_an_alert_has_a_runbook_that_names_it(alert: alerts.Alert) -> None:
    """Whoever is woken up finds what to do."""
    assert f"`{alert.name}`" in (ROOT / "docs" / "runbooks" / f"{alert.runbook}.md").read_text(encoding="utf-8")


def test_standbys_are_watched_where_there_are_some() -> None:
    """Neither for one instance nor for an external server."""
    for postgres, expected in (
        ({"instances": 1}, None),
        ({"instances": 2}, "< 1"),
        ({"instances": 3}, "< 2"),
        ({"external": {"secretRef": {"name": "x"}}}, None),
    ):
        (_, _, rule) = alerts.build(inputs({**WANTED, "postgres": postgres}))
        found = {one["alert"]: one["expr"] for one in rule["spec"]["groups"][0]["rules"]}.get("PodiumStandbyLost")
        assert (found is None) if expected is None else (found or "").endswith(expected)


def test_prometheus_reads_the_services_and_no_store() -> None:
    """By name, for the stores' pods carry the same label of the instance."""
    way_in, monitor, _ = alerts.build(inputs(WANTED))
    names = sorted(role.name for role in ROLES)
    for selector in (way_in["spec"]["podSelector"], monitor["spec"]["selector"]):
        (expression,) = selector["matchExpressions"]
        assert expression["values"] == names
    assert way_in["spec"]["policyTypes"] == ["Ingress"]


def test_wanting_rules_is_no_reason_to_touch_anything_else() -> None:
    """Pods stay as they are."""
    before, after = inputs({}), inputs(WANTED)
    templates = {
        part.name: [item.get("spec", {}).get("template") for item in part.render(before)] for part in COMPONENTS
    }
    changed = {
        part.name: [item.get("spec", {}).get("template") for item in part.render(after)]
        for part in COMPONENTS
        if part.name != "alerts"
    }
    assert changed == {name: found for name, found in templates.items() if name != "alerts"}
