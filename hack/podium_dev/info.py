"""The description of a running instance that `make -s info` prints as one JSON object."""

from __future__ import annotations

from typing import TypedDict

from podium_dev import access
from podium_dev.access import GATEWAY, NAME, NAMESPACE, PAGES
from podium_dev.clusters import Cluster
from podium_dev.console import StageError
from podium_dev.instance import Instance


class Info(TypedDict):
    """What a client or SRE needs to use the instance."""

    url: str
    wsUrl: str
    clientId: str
    clientSecret: str
    namespace: str
    name: str
    kubeconfig: str
    pages: dict[str, str]


def describe(instance: Instance, cluster: Cluster) -> Info:
    """The description of an instance that is up.

    Raises StageError if the sample has no client yet.
    """
    client = cluster.kubectl.secret(f"{NAME}-client-game", NAMESPACE)
    if client is None:
        raise StageError(f"there is no sample in {NAMESPACE} (or the cluster does not answer); `make up` installs it")
    url = access.url(instance, GATEWAY)
    return {
        "url": url,
        "wsUrl": f"ws{url.removeprefix('http')}/ws/scoreboard",
        "clientId": client["clientId"],
        "clientSecret": client["clientSecret"],
        "namespace": NAMESPACE,
        "name": NAME,
        "kubeconfig": cluster.kubeconfig or "",
        "pages": {page.name: access.url(instance, page) + page.path for page in PAGES},
    }
