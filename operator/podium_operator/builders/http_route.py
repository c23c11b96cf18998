"""The HTTPRoute (Gateway API) in front of the gateway. Pure."""

from __future__ import annotations

from podium_operator.builders.base import Inputs, metadata
from podium_operator.spec import JSON

GROUP = "gateway.networking.k8s.io"


def build(inputs: Inputs) -> list[JSON]:
    """One HTTPRoute for exposure `HTTPRoute`, else nothing.

    `gateway.className` is the Gateway that it is attached to, `name` or `namespace/name`.
    """
    gateway = inputs.spec.gateway
    if gateway.exposure != "HTTPRoute" or not gateway.class_name:
        return []
    namespace, _, name = gateway.class_name.rpartition("/")
    parent: JSON = {"group": GROUP, "kind": "Gateway", "name": name}
    if namespace:
        parent["namespace"] = namespace
    backend = {"group": "", "kind": "Service", "name": inputs.object_name("gateway"), "port": 80, "weight": 1}
    return [
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": "HTTPRoute",
            "metadata": metadata(inputs, "gateway"),
            "spec": {
                "parentRefs": [parent],
                "hostnames": [gateway.host],
                "rules": [
                    {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [backend]},
                ],
            },
        }
    ]
