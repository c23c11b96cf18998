"""The metrics server behind a real API server: the way by which the autoscaler asks, and everybody else who may try."""

from __future__ import annotations

import ssl
import urllib.error
from pathlib import Path

import pytest

from podium_operator.builders.base import CONNECTIONS_METRIC
from podium_operator.cluster import Refused
from podium_operator.connection_metrics.registration import CLUSTER_ROLE, names
from tests.integration.operator.api_server import AUTOSCALER_USER, FRONT_PROXY
from tests.integration.operator.front_proxy import Authority, anonymous
from tests.integration.operator.metrics_world import (
    ALL_PODS,
    GAMES,
    SERVICE_NAME,
    Answer,
    Metrics,
    is_available,
    until,
)

ROOT = "/apis/custom.metrics.k8s.io"
ARCADE = {"labelSelector": "app.kubernetes.io/instance=arcade,app.kubernetes.io/component=scoreboard"}


async def test_the_registration_goes_with_the_chart(metrics: Metrics) -> None:
    """It belongs to the chart's ClusterRole, so an uninstalled server leaves no dead API group behind."""
    role = await metrics.admin.get(CLUSTER_ROLE, None, SERVICE_NAME)
    assert role is not None
    for name in names():
        item = await until(is_available, metrics.admin, name)
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("ClusterRole", role["metadata"]["uid"])
        assert not item["spec"].get("insecureSkipTLSVerify")


async def test_the_autoscaler_reads_the_sum_of_each_pod(metrics: Metrics) -> None:
    """By the selector of the Deployment: the sum over kinds and agents, and 0 for a pod that had no watcher yet.

    A pod that does not answer, or knows nothing of connections, is left out and not taken for empty.
    """
    answer = await metrics.read(query=ARCADE)
    assert (answer["kind"], answer["apiVersion"]) == ("MetricValueList", "custom.metrics.k8s.io/v1beta2")
    found = {item["describedObject"]["name"]: item["value"] for item in answer["items"]}
    assert found == {"arcade-busy": "432", "arcade-fresh": "0"}
    assert {item["metric"]["name"] for item in answer["items"]} == {CONNECTIONS_METRIC}


async def test_without_a_selector_all_scoreboards_of_the_namespace_are_read(metrics: Metrics) -> None:
    """But never a pod of another kind, nor one that does not run."""
    found = {item["describedObject"]["name"] for item in (await metrics.read())["items"]}
    assert found == {"arcade-busy", "arcade-fresh", "casino-busy"}


async def test_the_older_version_names_the_metric_in_its_own_way(metrics: Metrics) -> None:
    """`metricName` in v1beta1 is `metric.name` in v1beta2."""
    items = (await metrics.read(ALL_PODS.replace("v1beta2", "v1beta1"), ARCADE))["items"]
    assert {item["metricName"] for item in items} == {CONNECTIONS_METRIC}
    assert all("metric" not in item for item in items)


async def test_one_pod_can_be_asked_for(metrics: Metrics) -> None:
    """By its name."""
    (item,) = (await metrics.read(ALL_PODS.replace("*", "arcade-busy")))["items"]
    assert item["value"] == "432"


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        (ALL_PODS.replace("*", "arcade-none"), None, 404),
        (ALL_PODS.replace("*", "arcade-silent"), None, 404),
        (ALL_PODS.replace("*", "arcade-scores"), None, 404),
        (ALL_PODS.replace(CONNECTIONS_METRIC, "podium_users"), None, 404),
        (ALL_PODS.replace("/pods/", "/services/"), None, 404),
        (ALL_PODS, {"labelSelector": "a in b"}, 400),
        (ALL_PODS, {"metricLabelSelector": "kind=sse"}, 400),
    ],
    ids=["no such pod", "silent pod", "other service", "other metric", "other kind", "bad selector", "labels"],
)
async def test_what_is_not_there_is_refused_with_a_status(
    metrics: Metrics, path: str, query: dict[str, str] | None, status: int
) -> None:
    """In the form of the Kubernetes API, so that clients show the sentence."""
    with pytest.raises(Refused) as refused:
        await metrics.autoscaler._call("GET", path, query)
    assert (refused.value.status, bool(str(refused.value))) == (status, True)


async def test_discovery_names_the_metric_in_both_versions(metrics: Metrics) -> None:
    """The autoscaler chooses the version by it."""
    for version in ("v1beta1", "v1beta2"):
        document = await metrics.read(f"{ROOT}/{version}")
        assert document["groupVersion"] == f"custom.metrics.k8s.io/{version}"
        (resource,) = document["resources"]
        assert resource["name"] == f"pods/{CONNECTIONS_METRIC}"
        assert resource["namespaced"] is True
    group = next(g for g in (await metrics.read("/apis"))["groups"] if g["name"] == "custom.metrics.k8s.io")
    assert group["preferredVersion"]["version"] == "v1beta2"


async def test_who_may_not_read_metrics_is_refused(metrics: Metrics) -> None:
    """By the API server, in front."""
    with pytest.raises(Refused) as refused:
        await metrics.stranger._call("GET", ALL_PODS)
    assert refused.value.status == 403


async def test_the_server_asks_for_the_users_rights_itself(metrics: Metrics, tmp_path: Path) -> None:
    """Even on behalf of the API server, only a user who may read the metric gets it."""
    context = metrics.authority.connection(tmp_path, FRONT_PROXY)
    for user, status in ((AUTOSCALER_USER, 200), ("stranger", 403)):
        answer = await metrics.directly(ALL_PODS, context, {"X-Remote-User": user})
        assert answer.status == status, answer
    granted = await metrics.directly(
        ALL_PODS, context, {"X-Remote-User": "somebody", "X-Remote-Group": "system:masters"}
    )
    assert granted.status == 200


async def test_headers_without_the_api_servers_certificate_are_worth_nothing(metrics: Metrics, tmp_path: Path) -> None:
    """No certificate, or one that the authority gave to somebody else: 401, whatever user is claimed."""
    claim = {"X-Remote-User": AUTOSCALER_USER, "X-Remote-Group": "system:masters"}
    for context in (anonymous(), metrics.authority.connection(tmp_path, "somebody-else")):
        answer = await metrics.directly(ALL_PODS, context, claim)
        assert (answer.status, answer.body["reason"]) == (401, "Unauthorized")


async def test_a_certificate_of_another_authority_ends_the_handshake(metrics: Metrics, tmp_path: Path) -> None:
    """Though it has the right names."""
    forged = Authority.create().connection(tmp_path, FRONT_PROXY)
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        await metrics.directly(ALL_PODS, forged, {"X-Remote-User": AUTOSCALER_USER})


async def test_the_certificate_alone_is_nobody(metrics: Metrics, tmp_path: Path) -> None:
    """A request that names no user is refused."""
    answer = await metrics.directly(ALL_PODS, metrics.authority.connection(tmp_path, FRONT_PROXY))
    assert answer.status == 401


async def test_nothing_but_names_gets_into_a_path_of_the_api_server(metrics: Metrics, tmp_path: Path) -> None:
    """A namespace or pod with a slash in it is no route."""
    context = metrics.authority.connection(tmp_path, FRONT_PROXY)
    for path in (
        ALL_PODS.replace(GAMES, "a%2F..%2Fb"),
        ALL_PODS.replace("*", "..%2Fsecrets"),
        ALL_PODS.replace(GAMES, "%3F"),
    ):
        answer = await metrics.directly(path, context, {"X-Remote-User": "x", "X-Remote-Group": "system:masters"})
        assert answer.status == 404, path


async def test_health_needs_no_certificate(metrics: Metrics) -> None:
    """The kubelet has none."""
    assert await metrics.directly("/healthz/ready", anonymous()) == Answer(200, {"status": "ok", "missing": []})
    assert (await metrics.directly("/healthz/live", anonymous())).status == 200
