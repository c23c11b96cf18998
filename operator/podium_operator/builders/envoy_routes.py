"""What the gateway serves: paths, their services, limits, time-outs and retries. Pure.

Nothing here rewrites a path: the client has signed it. A path that is not in its plain form is refused instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podium_operator.spec import JSON

CLIENT_ADDRESS_HEADER = "x-podium-client-ip"
"""Header by which services learn the client's address; whatever a client sends in it is lost."""

JWT_METADATA = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD = "podium"
"""Where the verified payload of an access token lies in the request's metadata."""

BODY_BYTES = 16 * 1024
"""Largest body of a request (docs/api.md)."""

UPDATE_PATH = "/api/v1/scores/update"

_EXTENSION = "type.googleapis.com/envoy.extensions.retry."

_TIMEOUT = "10s"
_STREAM_IDLE = "75s"
"""Of WebSockets and event streams, which are silent for 25 s at most; two heartbeats may be lost."""

_DOT_SEGMENTS = r"^[^?]*/(\.|%2[eE]){1,2}(/|\?|$).*"


@dataclass(frozen=True)
class Route:
    """One row of the table. `methods` empty means all."""

    path: str
    service: str
    prefix: bool = False
    methods: tuple[str, ...] = ()
    kind: str = "request"
    """`read` (limited by readsPerIPPerMinute), `update` (also limited per user), `stream` or `request`."""


ROUTES = (
    Route(UPDATE_PATH, "scores", methods=("POST",), kind="update"),
    Route("/api/v1/auth/", "auth", prefix=True),
    Route("/.well-known/oauth-authorization-server", "auth", methods=("GET", "HEAD")),
    Route("/.well-known/jwks.json", "auth", methods=("GET", "HEAD")),
    Route("/api/v1/admin/users", "auth"),
    Route("/api/v1/admin/users/", "auth", prefix=True),
    Route("/api/v1/admin/", "analytics", prefix=True),
    Route("/api/v1/analytics/", "analytics", prefix=True),
    Route("/ws/scoreboard", "scoreboard", methods=("GET",), kind="stream"),
    Route("/api/v1/scoreboard/stream", "scoreboard", methods=("GET",), kind="stream"),
    Route("/api/v1/scoreboard", "scoreboard", methods=("GET", "HEAD"), kind="read"),
    Route("/api/v1/scoreboard/", "scoreboard", prefix=True, methods=("GET", "HEAD"), kind="read"),
    Route("/", "scoreboard", methods=("GET", "HEAD")),
    Route("/assets/", "scoreboard", prefix=True, methods=("GET", "HEAD")),
    Route("/openapi.json", "scoreboard", methods=("GET", "HEAD")),
    Route("/asyncapi.json", "scoreboard", methods=("GET", "HEAD")),
)
"""First match wins."""

SERVICES = ("scores", "auth", "scoreboard", "analytics")
"""Services that are reached through the gateway."""


def route_configuration() -> JSON:
    """`route_config` of the public listeners."""
    too_long = {"start": BODY_BYTES + 1, "end": 2**62}
    routes: list[JSON] = [
        {
            "name": "body-too-large",
            "match": {"prefix": "/", "headers": [{"name": "content-length", "range_match": too_long}]},
            "direct_response": {"status": 413},
        },
        {
            "name": "dot-segments",
            "match": {"safe_regex": {"regex": _DOT_SEGMENTS}},
            "direct_response": {"status": 400},
        },
    ]
    for route in ROUTES:
        if route.kind != "stream" and (not route.methods or "GET" in route.methods):
            routes.append(_forward(route, ("GET", "HEAD"), _retry_read()))
        writing = tuple(method for method in route.methods if method not in ("GET", "HEAD"))
        if not route.methods or writing or route.kind == "stream":
            routes.append(_forward(route, route.methods, _retry_write()))
        if route.methods:
            routes.append(_refuse(route))
    # Without a route nothing would refuse an upgrade, and the buffer filter would wait for the end of its "body".
    routes.append({"name": "nothing", "match": {"prefix": "/"}, "direct_response": {"status": 404}})
    return {
        "name": "public",
        "virtual_hosts": [{"name": "podium", "domains": ["*"], "routes": routes}],
        "request_headers_to_add": [
            {
                "header": {"key": CLIENT_ADDRESS_HEADER, "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "response_headers_to_add": [
            {"header": {"key": "x-content-type-options", "value": "nosniff"}, "append_action": "ADD_IF_ABSENT"}
        ],
    }


def _match(route: Route, methods: Sequence[str] = ()) -> JSON:
    found: JSON = {"prefix": route.path} if route.prefix else {"path": route.path}
    if methods:
        pattern = "|".join(methods)
        found["headers"] = [{"name": ":method", "string_match": {"safe_regex": {"regex": pattern}}}]
    return found


def _retry_read() -> JSON:
    """A read may be sent again as long as no answer has begun."""
    return _retry("connect-failure,refused-stream,reset-before-request,reset", 2)


def _retry_write() -> JSON:
    """Anything else only where the service cannot have seen it."""
    return _retry("connect-failure,refused-stream", 2)


def _retry(conditions: str, times: int) -> JSON:
    return {
        "retry_on": conditions,
        "num_retries": times,
        # A second attempt goes to the Service instead of a known pod: what is known may be gone.
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": _EXTENSION + "priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": _EXTENSION + "host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
        "host_selection_retry_max_attempts": 3,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }


def _forward(route: Route, methods: Sequence[str], retry: JSON) -> JSON:
    streaming = route.kind == "stream"
    action: JSON = {
        "cluster": route.service,
        "timeout": "0s" if streaming else _TIMEOUT,
        "idle_timeout": _STREAM_IDLE if streaming else _TIMEOUT,
        "retry_policy": retry,
        "rate_limits": _limits(route.kind),
    }
    made: JSON = {
        "name": f"{route.path}{'*' if route.prefix else ''} {'|'.join(methods) or 'any'}",
        "match": _match(route, methods),
        "route": action,
        "decorator": {"operation": f"gateway {route.path}{'*' if route.prefix else ''}", "propagate": False},
    }
    if streaming:
        if route.path.startswith("/ws/"):
            action["upgrade_configs"] = [{"upgrade_type": "websocket", "enabled": True}]
        made["typed_per_filter_config"] = {
            # Frames are no body to wait for.
            "envoy.filters.http.buffer": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
                "disabled": True,
            }
        }
    return made


def _refuse(route: Route) -> JSON:
    return {
        "name": f"{route.path}{'*' if route.prefix else ''} method",
        "match": _match(route),
        "direct_response": {"status": 405},
        "response_headers_to_add": [
            {
                "header": {"key": "allow", "value": ", ".join(route.methods)},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _limits(kind: str) -> list[JSON]:
    """Descriptors of the rate-limit service (`builders.ratelimit.limits`)."""
    address: JSON = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}

    def group(name: str) -> JSON:
        return {"generic_key": {"descriptor_key": "class", "descriptor_value": name}}

    limits: list[JSON] = [{"actions": [group("read" if kind == "read" else "request"), address]}]
    if kind == "update":
        path = [{"key": JWT_PAYLOAD}, {"key": "sub"}]
        user: JSON = {"metadata": {"descriptor_key": "user", "metadata_key": {"key": JWT_METADATA, "path": path}}}
        limits.append({"actions": [group("update"), user]})
    return limits
