"""Alerting rules for Prometheus, and what lets it read the metrics they need. Pure.

The kinds are those of the Prometheus Operator. Metrics get the label `scoreboard`, so rules of several Scoreboards in
a namespace stay apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from podium_operator.builders.base import SERVICE_PORT, Inputs, metadata, network_policy, selector, tcp
from podium_operator.builders.services import ROLES
from podium_operator.spec import JSON

API_VERSION = "monitoring.coreos.com/v1"
COMPONENT = "alerts"
SCRAPE_INTERVAL = "15s"
PROMETHEUS_PODS = {"app.kubernetes.io/name": "prometheus"}
"""Label of Prometheus's pods, as the Prometheus Operator and the common charts set it."""


@dataclass(frozen=True)
class Alert:
    """One alert. In `expression` `SB` stands for the label matchers of the Scoreboard."""

    name: str
    expression: str
    lasting: str
    """For how long it must be so, as a duration of Prometheus."""
    severity: str
    """`critical`: users notice, now. `warning`: somebody should look today."""
    runbook: str
    """File of `docs/runbooks`, without its ending."""
    summary: str


ALERTS = (
    Alert(
        "PodiumDeadLetters", "max by (consumer) (podium_dead_letters{SB}) > 0", "1m", "warning", "dead-letters",
        "{{ $value }} messages that {{ $labels.consumer }} could not handle wait for a decision",
    ),
    Alert(
        "PodiumOutboxOld", "max(podium_outbox_oldest_seconds{SB}) > 10", "1m", "critical", "outbox-old",
        "Committed updates have waited for {{ $value | humanizeDuration }} to be sent to the rankings",
    ),
    Alert(
        "PodiumRankingDrift", "max by (board) (podium_ranking_drift_users{SB}) > 0", "0m", "warning", "ranking-drift",
        "The ranking of board {{ $labels.board }} differed from the database for {{ $value }} users and was healed",
    ),
    Alert(
        "PodiumDatabaseAway", 'sum(rate(podium_store_failures_total{SB,store="postgres"}[2m])) > 0', "1m", "critical",
        "postgres-away", "Calls to PostgreSQL fail",
    ),
    Alert(
        "PodiumRedisAway", 'sum(rate(podium_store_failures_total{SB,store="redis"}[2m])) > 0', "1m", "critical",
        "redis-away", "Calls to Redis fail",
    ),
    Alert(
        "PodiumNatsAway",
        'sum(rate(podium_store_failures_total{SB,store="nats"}[2m])) > 0 '
        "or max(podium_scoreboard_feed_connected{SB}) < 1",
        "1m", "critical", "nats-away", "Calls to NATS fail, or no scoreboard pod is connected to it",
    ),
    Alert(
        "PodiumServerErrors",
        'sum by (service) (rate(podium_http_request_duration_seconds_count{SB,status=~"5.."}[5m])) '
        "/ sum by (service) (rate(podium_http_request_duration_seconds_count{SB}[5m])) > 0.01",
        "5m", "critical", "server-errors",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.service }} end in a 5xx",
    ),
    Alert(
        "PodiumNothingCommitted",
        'sum(rate(podium_score_updates_total{SB,result=~"(database|dependency)-unavailable"}[5m])) > 0 '
        'unless sum(rate(podium_score_updates_total{SB,result="accepted"}[5m])) > 0',
        "2m", "critical", "nothing-committed", "Score updates come in, and none is committed",
    ),
    Alert(
        "PodiumProjectorBehind",
        "histogram_quantile(0.99, sum by (le) (rate(podium_projector_lag_seconds_bucket{SB}[5m]))) > 5",
        "5m", "warning", "projector-behind",
        "One in a hundred updates takes more than {{ $value | humanizeDuration }} into the ranking",
    ),
    Alert(
        "PodiumProjectorStuck",
        'max(podium_consumer_lag{SB,consumer="projector"}) > 0 '
        "unless sum(rate(podium_projector_updates_total{SB}[5m])) > 0",
        "5m", "critical", "projector-behind", "{{ $value }} events wait, and no projector takes any",
    ),
    Alert(
        "PodiumMaintenanceLate", "min(podium_action_log_ahead_seconds{SB}) < 86400", "15m", "warning",
        "maintenance-late",
        "The log of actions has partitions for {{ $value | humanizeDuration }} only: its maintenance fails",
    ),
    Alert(
        "PodiumMetricsMissing", "absent(podium_outbox_oldest_seconds{SB})", "10m", "warning", "metrics-missing",
        "No pod of the analytics service is read, and most alerts are blind",
    ),
)  # fmt: skip
"""Those of every Scoreboard."""

STANDBY_LOST = Alert(
    "PodiumStandbyLost", "max(podium_postgres_standbys{SB}) < STANDBYS", "2m", "warning", "standby-lost",
    "{{ $value }} of STANDBYS standbys of PostgreSQL follow; one more fault may lose what was acknowledged",
)  # fmt: skip
"""Where the operator runs PostgreSQL with standbys; `STANDBYS` stands for their number."""


def build(inputs: Inputs) -> list[JSON]:
    """PrometheusRule, PodMonitor and the way in for Prometheus; nothing unless the spec wants them."""
    if not inputs.spec.observability.prometheus_rules:
        return []
    return [_way_in(inputs), _monitor(inputs), _rules(inputs)]


def alerts(inputs: Inputs) -> list[Alert]:
    """The alerts that make sense for this spec."""
    postgres = inputs.spec.postgres
    standbys = 0 if postgres.external else postgres.instances - 1
    return [*ALERTS, *([STANDBY_LOST] if standbys else [])]


def _rules(inputs: Inputs) -> JSON:
    group = {"name": f"podium-{inputs.name}", "rules": [_rule(inputs, alert) for alert in alerts(inputs)]}
    return {
        "apiVersion": API_VERSION,
        "kind": "PrometheusRule",
        "metadata": metadata(inputs, COMPONENT),
        "spec": {"groups": [group]},
    }


def _rule(inputs: Inputs, alert: Alert) -> JSON:
    matchers = f'namespace="{inputs.namespace}",scoreboard="{inputs.name}"'
    standbys = str(inputs.spec.postgres.instances - 1)
    return {
        "alert": alert.name,
        "expr": alert.expression.replace("{SB", "{" + matchers).replace("STANDBYS", standbys),
        "for": alert.lasting,
        # Aggregation drops the labels of the series; these lead back to the resource.
        "labels": {"severity": alert.severity, "namespace": inputs.namespace, "scoreboard": inputs.name},
        "annotations": {
            "summary": alert.summary.replace("STANDBYS", standbys),
            "runbook": f"docs/runbooks/{alert.runbook}.md",
        },
    }


def _monitor(inputs: Inputs) -> JSON:
    """Reads every pod of the services."""
    return {
        "apiVersion": API_VERSION,
        "kind": "PodMonitor",
        "metadata": metadata(inputs, COMPONENT),
        "spec": {
            "selector": {
                "matchLabels": selector(inputs.name),
                "matchExpressions": [_services()],
            },
            "podMetricsEndpoints": [
                {
                    "port": "http",
                    "path": "/metrics",
                    "interval": SCRAPE_INTERVAL,
                    "relabelings": [{"action": "replace", "targetLabel": "scoreboard", "replacement": inputs.name}],
                }
            ],
        },
    }


def _way_in(inputs: Inputs) -> JSON:
    """A NetworkPolicy beside those of the services: what one of them allows is allowed."""
    prometheus = {"namespaceSelector": {}, "podSelector": {"matchLabels": PROMETHEUS_PODS}}
    policy = network_policy(inputs, COMPONENT, ingress=[{"from": [prometheus], "ports": tcp(SERVICE_PORT)}])
    policy["spec"]["podSelector"] = {"matchLabels": selector(inputs.name), "matchExpressions": [_services()]}
    policy["spec"]["policyTypes"] = ["Ingress"]
    del policy["spec"]["egress"]
    return policy


def _services() -> JSON:
    names = sorted(role.name for role in ROLES)
    return {"key": "app.kubernetes.io/component", "operator": "In", "values": names}
