"""The Kubernetes API as the operator uses it: objects as plain JSON, writes by server-side apply. Does I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from podium_operator.builders.base import MANAGER
from podium_operator.spec import JSON

TIMEOUT_SECONDS = 30
"""Longest wait for one answer of the API server."""


@dataclass(frozen=True)
class Kind:
    """A kind of object and where the API serves it."""

    api_version: str
    kind: str
    plural: str
    optional: bool = False
    """A kind of an add-on that a cluster may lack; it then has no objects."""

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Path of a collection, an object or its subresource; without a namespace, the collection of all namespaces."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [root, *(["namespaces", namespace] if namespace else []), self.plural, name, subresource]
        return "/".join(part for part in parts if part)


SCOREBOARD = Kind("podium.dev/v1alpha1", "Scoreboard", "scoreboards")
SECRET = Kind("v1", "Secret", "secrets")
POD = Kind("v1", "Pod", "pods")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
ENDPOINTS = Kind("v1", "Endpoints", "endpoints")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE = Kind("v1", "Service", "services")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
JOB = Kind("batch/v1", "Job", "jobs")
CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs")
REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes", optional=True)
PROMETHEUS_RULE = Kind("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules", optional=True)
POD_MONITOR = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors", optional=True)

OWNED = (
    CONFIG_MAP,
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    SERVICE,
    Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("networking.k8s.io/v1", "Ingress", "ingresses"),
    HTTP_ROUTE,
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    STATEFUL_SET,
    DEPLOYMENT,
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    JOB,
    CRON_JOB,
    POD_MONITOR,
    PROMETHEUS_RULE,
)
"""Kinds of the objects that builders make: these are applied (in this order), watched and pruned."""

BY_NAME = {(kind.api_version, kind.kind): kind for kind in OWNED}


def kind_of(item: JSON) -> Kind:
    """Kind of an object that a builder made. Raises KeyError for one that the operator has no rights for."""
    return BY_NAME[(item["apiVersion"], item["kind"])]


class Conflict(Exception):
    """The object exists already, or was changed in between."""


class Refused(Exception):
    """The API server does not accept the request (a client error); the message is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


NOT_FOUND = 404
"""HTTP status for an object that does not exist, or a kind that the cluster does not serve."""

MESSAGE_LIMIT = 800
"""Characters of an error message that are kept: some of them quote whole objects."""


def _message(error: ApiException) -> str:
    try:
        text = str(json.loads(error.body or "{}").get("message") or error.reason)
        return text if len(text) <= MESSAGE_LIMIT else f"{text[: MESSAGE_LIMIT // 2]} … {text[-MESSAGE_LIMIT // 2 :]}"
    except (ValueError, AttributeError):
        return str(error.reason)


class Cluster:
    """A connection to the API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api

    @classmethod
    async def connect(cls) -> Cluster:
        """From inside a pod with its ServiceAccount, else by the current kubeconfig."""
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
        except config.ConfigException:
            await config.load_kube_config()  # type: ignore[no-untyped-call]
        return cls(client.ApiClient())

    async def close(self) -> None:
        """Close all connections."""
        await self.api.close()  # type: ignore[no-untyped-call]

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> JSON:
        url = self.api.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content_type}
        await self._authorize(headers)
        response = await self.api.rest_client.request(  # type: ignore[no-untyped-call]
            method, url, headers=headers, body=body, _request_timeout=TIMEOUT_SECONDS
        )
        data = await response.read()
        if 200 <= response.status < 300:
            result: JSON = json.loads(data) if data else {}
            return result
        error = ApiException(status=response.status, reason=response.reason)
        error.body = data.decode(errors="replace") if data else ""
        if response.status == 409:
            raise Conflict(_message(error))
        raise Refused(response.status, _message(error))

    async def _authorize(self, headers: dict[str, str]) -> None:
        for auth in (await self.api.configuration.auth_settings()).values():
            if auth.get("in") == "header" and auth.get("value"):
                headers[auth["key"]] = auth["value"]

    async def get(self, kind: Kind, namespace: str | None, name: str) -> JSON | None:
        """The object, or None if there is none."""
        try:
            return await self._call("GET", kind.path(namespace, name))
        except Refused as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def find(
        self, kind: Kind, namespace: str | None, labels: Mapping[str, str] | str | None = None
    ) -> list[JSON]:
        """All objects with these labels, or that a selector in the API's own form means.

        kind and apiVersion are filled in.
        """
        if isinstance(labels, Mapping):
            labels = ",".join(f"{k}={v}" for k, v in labels.items())
        query = {"labelSelector": labels} if labels else {}
        try:
            answer = await self._call("GET", kind.path(namespace), query)
        except Refused as error:
            if kind.optional and error.status == NOT_FOUND:
                return []
            raise
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer.get("items", [])]

    async def create(self, kind: Kind, namespace: str | None, item: JSON) -> JSON:
        """Make the object. Raises Conflict if it exists."""
        return await self._call("POST", kind.path(namespace), {"fieldManager": MANAGER}, item)

    async def apply(self, kind: Kind, item: JSON, manager: str = MANAGER, *, force: bool = True) -> JSON:
        """Server-side apply: the fields given are the manager's, whoever had them before; its former fields go.

        An object without a namespace is one of the whole cluster. Raises Conflict without `force`, if somebody else
        has one of the fields with another value.
        """
        meta = item["metadata"]
        query = {"fieldManager": manager, "force": str(force).lower()}
        path = kind.path(meta.get("namespace"), meta["name"])
        return await self._call("PATCH", path, query, item, "application/apply-patch+yaml")

    async def merge(
        self, kind: Kind, namespace: str, name: str, patch: JSON, subresource: str = "", manager: str = MANAGER
    ) -> JSON:
        """JSON merge patch of an object or its subresource."""
        path = kind.path(namespace, name, subresource)
        return await self._call("PATCH", path, {"fieldManager": manager}, patch, "application/merge-patch+json")

    async def merge_if_there(
        self, kind: Kind, namespace: str, name: str, patch: JSON, subresource: str = "", manager: str = MANAGER
    ) -> JSON | None:
        """Like `merge`, or None if the object is gone: anybody may delete it between a look and a step."""
        try:
            return await self.merge(kind, namespace, name, patch, subresource, manager)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
            return None

    async def delete(self, kind: Kind, namespace: str | None, name: str, uid: str | None = None) -> None:
        """Delete the object, and what it owns in the background. One that is gone already is no error."""
        options: JSON = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", kind.path(namespace, name), body=options)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise
