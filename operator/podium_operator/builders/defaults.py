"""What applies to all pods of a Scoreboard: no traffic in or out, but name resolution. Pure."""

from __future__ import annotations

from podium_operator.builders.base import Inputs, metadata, selector
from podium_operator.spec import JSON

DNS_PORT = 53


def build(inputs: Inputs) -> list[JSON]:
    """The default-deny NetworkPolicy; components add what they need."""
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata(inputs, "default"),
            "spec": {
                "podSelector": {"matchLabels": selector(inputs.name)},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [],
                "egress": [{"ports": [{"port": DNS_PORT, "protocol": name} for name in ("UDP", "TCP")]}],
            },
        }
    ]
