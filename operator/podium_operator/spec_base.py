"""What the parts of the resource's model share: forms of values, CEL rules, the base of all parts. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

JSON = dict[str, Any]
"""A Kubernetes object, or a part of one, in its JSON form."""

DURATION_PATTERN = r"^[1-9][0-9]{0,8}(s|m|h|d)$"
"""A whole number with one unit, such as 30s, 5m, 24h or 7d."""

CRON_PATTERN = r"^(@(hourly|daily|weekly|monthly|yearly)|([0-9*,/-]+ ){3}[0-9A-Za-z*,/-]+ [0-9A-Za-z*,/-]+)$"
"""Minute, hour, day of the month, month, day of the week; or a name of a period."""

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
"""The subset of Kubernetes quantities that CPU, memory and storage need."""

NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN)]


def seconds(duration: str) -> int:
    """Length of a duration such as `5m`, in seconds. Raises ValueError for any other form."""
    if not re.match(DURATION_PATTERN, duration):
        raise ValueError(f"not a duration: {duration!r}")
    return int(duration[:-1]) * SECONDS_PER_UNIT[duration[-1]]


def rules(*rules: tuple[str, str]) -> JSON:
    """CEL validations: pairs of a rule and the sentence that says what to write instead."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


Duration = Annotated[
    str,
    Field(
        pattern=DURATION_PATTERN,
        max_length=10,
        json_schema_extra=rules(
            (
                f"self.matches('{DURATION_PATTERN}')",
                "write a duration as a whole number and one unit of s, m, h or d, for example 30s, 5m or 24h",
            )
        ),
    ),
]


def key(*names: str) -> JSON:
    """A list whose items are told apart by these fields, so server-side apply merges it item by item."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(names)}


class Model(BaseModel):
    """Base of all parts: camelCase outside, snake_case inside, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Resources(Model):
    """Compute resources of one container, as in a Pod."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict, description="Guaranteed amounts by resource name (cpu, memory)."
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict, description="Upper bounds by resource name (cpu, memory)."
    )

    def as_kubernetes(self) -> JSON:
        """The `resources` field of a container; empty maps are left out."""
        return {k: dict(v) for k, v in (("requests", self.requests), ("limits", self.limits)) if v}


def default_resources(cpu: str, memory: str, memory_limit: str) -> Callable[[], Resources]:
    """Default resources: no CPU limit, because throttling would add latency for nothing."""
    return lambda: Resources(requests={"cpu": cpu, "memory": memory}, limits={"memory": memory_limit})


class SecretRef(Model):
    """A Secret of the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")
