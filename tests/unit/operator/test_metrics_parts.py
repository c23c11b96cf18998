"""The metrics server's parts that do no I/O: documents, certificate, choice of pods, remembered decisions."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509

from podium_operator.builders.base import CONNECTIONS_METRIC
from podium_operator.cluster import Cluster, Refused
from podium_operator.connection_metrics import certificate, documents
from podium_operator.connection_metrics.access import KEPT_SECONDS, Access, Question
from podium_operator.connection_metrics.callers import User
from podium_operator.connection_metrics.readings import holds_connections
from podium_operator.scrape import numbers
from podium_operator.spec import JSON

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_values_are_those_of_the_kubernetes_types() -> None:
    """Field by field as k8s.io/metrics/pkg/apis/custom_metrics/v1beta2 has them; a value is a quantity."""
    assert documents.values("v1beta2", "games", [("arcade-1", 432)], NOON) == {
        "kind": "MetricValueList",
        "apiVersion": "custom.metrics.k8s.io/v1beta2",
        "metadata": {},
        "items": [
            {
                "describedObject": {"kind": "Pod", "namespace": "games", "name": "arcade-1", "apiVersion": "/v1"},
                "metric": {"name": "podium_scoreboard_connections"},
                "timestamp": "2026-11-23T12:00:00Z",
                "value": "432",
            }
        ],
    }


def test_discovery_prefers_the_newer_version() -> None:
    """In the group, and alike in the list of groups."""
    assert documents.groups()["groups"] == [
        {key: value for key, value in documents.group().items() if key not in ("kind", "apiVersion")}
    ]
    assert documents.group()["preferredVersion"]["groupVersion"] == "custom.metrics.k8s.io/v1beta2"
    assert [each["version"] for each in documents.group()["versions"]] == ["v1beta2", "v1beta1"]


def test_connections_are_summed_over_kinds_and_agents() -> None:
    """Other metrics of the page do not count; a page that names the metric without a series says none."""
    page = "# TYPE podium_scoreboard_connections gauge\n"
    series = 'podium_scoreboard_connections{kind="%s",agent="a"} 2\n'
    assert numbers(page)[CONNECTIONS_METRIC] == 0
    assert numbers(page + series % "sse" + series % "websocket")[CONNECTIONS_METRIC] == 4
    assert CONNECTIONS_METRIC not in numbers("# TYPE x gauge\nx 1\n")


def _pod(**changes: Any) -> JSON:
    labels = {"app.kubernetes.io/name": "podium", "app.kubernetes.io/component": "scoreboard", "more": "x"}
    meta = {"name": "arcade-1", "labels": changes.pop("labels", labels), **changes.pop("metadata", {})}
    return {"metadata": meta, "status": {"phase": "Running", "podIP": "10.0.0.1", **changes}}


def test_a_running_scoreboard_pod_is_asked() -> None:
    """The base of the next test."""
    assert holds_connections(_pod())


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"app.kubernetes.io/name": "podium", "app.kubernetes.io/component": "scores"}},
        {"labels": {"app.kubernetes.io/component": "scoreboard"}},
        {"labels": {}},
        {"phase": "Pending"},
        {"phase": "Succeeded"},
        {"podIP": ""},
        {"metadata": {"deletionTimestamp": "2026-11-23T12:00:00Z"}},
    ],
    ids=str,
)
def test_no_other_pod_is_asked(changes: JSON) -> None:
    """A selector of the caller's cannot lead to pods of others; a pod that drains is no longer counted."""
    assert not holds_connections(_pod(**changes))


def test_the_certificate_is_for_the_name_of_the_service_alone() -> None:
    """It signs nothing, and its dates allow for clocks that differ."""
    made = certificate.make("metrics.podium-system.svc", NOON)
    read = x509.load_pem_x509_certificate(made.public.encode())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["metrics.podium-system.svc"]
    assert read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert read.not_valid_before_utc < NOON < read.not_valid_after_utc
    assert "PRIVATE" not in made.public


def test_a_long_name_still_makes_a_certificate() -> None:
    """Common names end at 64 characters; the name that counts does not."""
    name = f"{'a' * 63}.{'b' * 63}.svc"
    read = x509.load_pem_x509_certificate(certificate.make(name).public.encode())
    assert read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ) == [name]


def test_the_certificate_is_renewed_long_before_it_ends() -> None:
    """Half a year of life is left."""
    made = certificate.make("x", NOON)
    assert not made.is_due(NOON + certificate.RENEWAL)
    assert made.is_due(NOON + certificate.RENEWAL + timedelta(seconds=1))
    assert certificate.LIFE / 2 + timedelta(days=1) > certificate.RENEWAL


def test_an_authority_that_cannot_be_read_is_an_error() -> None:
    """And never a server that trusts anybody."""
    with pytest.raises(ssl.SSLError):
        certificate.tls(certificate.make("x"), "nonsense")


class _Reviews:
    """The API server's authorisation, as it answers reviews."""

    def __init__(self, answers: list[bool | Refused]) -> None:
        self.answers = answers
        self.asked: list[JSON] = []

    async def create(self, _: object, __: object, item: JSON) -> JSON:
        self.asked.append(item["spec"])
        answer = self.answers.pop(0)
        if isinstance(answer, Refused):
            raise answer
        return {"status": {"allowed": answer}}


METRIC = Question("/x", "v1beta2", "games", "*", CONNECTIONS_METRIC)


async def test_a_decision_is_remembered_for_a_moment() -> None:
    """For this user and this question; after that the API server is asked again."""
    now = 0.0
    reviews = _Reviews([True, False, False])
    access = Access(cast(Cluster, reviews), documents.GROUP, lambda: now)
    assert await access.allows(User("ann"), METRIC)
    assert await access.allows(User("ann"), METRIC)
    assert not await access.allows(User("bob"), METRIC)
    assert len(reviews.asked) == 2
    now = KEPT_SECONDS
    assert not await access.allows(User("ann"), METRIC)


async def test_the_review_carries_the_whole_user_and_the_whole_question() -> None:
    """Groups and extras decide as the name does; the metric is a subresource of pods."""
    reviews = _Reviews([True, True])
    access = Access(cast(Cluster, reviews), documents.GROUP)
    await access.allows(User("ann", "7", ("players",), (("scopes", ("a",)),)), METRIC)
    await access.allows(User("ann"), Question("/apis"))
    assert reviews.asked == [
        {
            "user": "ann",
            "uid": "7",
            "groups": ["players"],
            "extra": {"scopes": ["a"]},
            "resourceAttributes": {
                "group": "custom.metrics.k8s.io",
                "version": "v1beta2",
                "namespace": "games",
                "resource": "pods",
                "subresource": CONNECTIONS_METRIC,
                "name": "*",
                "verb": "get",
            },
        },
        {"user": "ann", "groups": [], "nonResourceAttributes": {"path": "/apis", "verb": "get"}},
    ]


async def test_a_failure_to_decide_lets_nobody_in_and_is_not_remembered() -> None:
    """The error goes on; the next request asks anew."""
    access = Access(cast(Cluster, _Reviews([Refused(403, "no rights"), True])), documents.GROUP)
    with pytest.raises(Refused):
        await access.allows(User("ann"), METRIC)
    assert await access.allows(User("ann"), METRIC)
