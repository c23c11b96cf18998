"""The Ingress in front of the gateway. Pure."""

from __future__ import annotations

from podium_operator.builders.base import Inputs, metadata
from podium_operator.spec import JSON


def build(inputs: Inputs) -> list[JSON]:
    """One Ingress for exposure `Ingress`, else nothing."""
    gateway = inputs.spec.gateway
    if gateway.exposure != "Ingress":
        return []
    backend = {"service": {"name": inputs.object_name("gateway"), "port": {"number": 80}}}
    spec: JSON = {
        "rules": [{"host": gateway.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    }
    if gateway.class_name:
        spec["ingressClassName"] = gateway.class_name
    if gateway.tls_secret_name:
        spec["tls"] = [{"hosts": [gateway.host], "secretName": gateway.tls_secret_name}]
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata(inputs, "gateway"),
            "spec": spec,
        }
    ]
