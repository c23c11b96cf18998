"""Envoy's whole configuration, static: listeners, filters, clusters. Pure.

References are to the Envoy API v3 documentation (https://www.envoyproxy.io/docs/envoy/latest/api-v3/api).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from podium_operator.builders import envoy_problems, envoy_routes, ratelimit
from podium_operator.spec import JSON

HEADER_KIB = 16
"""Largest headers of a request, in KiB."""
CONNECTIONS = 9000
"""Connections that one pod takes: each needs a second one to a service, and 20,000 files is a common bound."""
UNACKNOWLEDGED_MS = 25_000
"""How long a client's host may leave bytes unacknowledged: with the heartbeat of each 25 s a watcher that is gone, of
the WebSocket or of the event stream, is found within two of them."""
SEND_BUFFER_BYTES = 64 * 1024
"""The kernel's buffer towards a client. Where it may grow to megabytes, a watcher who reads slowly is behind by all of
them, and the service takes one who reads at all for one who does not: the kernel asks for more by thirds of it."""
UPSTREAM_IDLE = "4s"
"""Idle connections to services close earlier than the services close them, so no request meets a closing one."""

_TYPE = "type.googleapis.com/envoy."


@dataclass(frozen=True)
class Settings:
    """What the configuration depends on."""

    endpoints: Mapping[str, tuple[str, int]]
    """Host name and port of the pods of each of `envoy_routes.SERVICES`, and of `ratelimit`."""
    jwks_path: str
    """File with the public keys of access tokens."""
    fallbacks: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Host name and port of the Service in front of the same pods, where there is one (see `_service`)."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-For is believed."""
    otlp_endpoint: str | None = None
    trace_sample_ratio: float = 1.0
    memory_bytes: int = 512 * 2**20
    """Memory that the process may use."""
    plain_port: int = 8080
    proxied_port: int = 8081
    """Port of plain HTTP, and of the same behind the PROXY protocol."""
    internal_port: int = 8090
    """Port of probes and metrics, not for clients."""
    admin_port: int = 9901
    """Port of the admin interface, on the loopback address only."""
    address: str = "0.0.0.0"
    node: Mapping[str, str] = field(default_factory=lambda: {"id": "gateway", "cluster": "podium-gateway"})


def typed(name: str, type_name: str, **fields: object) -> JSON:
    """An extension: its name and its typed configuration."""
    return {"name": name, "typed_config": {"@type": _TYPE + type_name, **fields}}


def configuration(settings: Settings) -> JSON:
    """The bootstrap configuration."""
    return {
        "node": dict(settings.node),
        "admin": {"address": _socket("127.0.0.1", settings.admin_port)},
        "overload_manager": _overload(settings),
        "static_resources": {
            "listeners": [_public(settings, proxied=False), _public(settings, proxied=True), _internal(settings)],
            "clusters": _clusters(settings),
        },
    }


def _socket(address: str, port: int) -> JSON:
    return {"socket_address": {"address": address, "port_value": port}}


def _overload(settings: Settings) -> JSON:
    def above(action: str, threshold: float) -> JSON:
        trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}
        return {"name": f"envoy.overload_actions.{action}", "triggers": [trigger]}

    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            typed(
                "envoy.resource_monitors.fixed_heap",
                "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                max_heap_size_bytes=int(settings.memory_bytes * 0.8),
            ),
            typed(
                "envoy.resource_monitors.global_downstream_max_connections",
                "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=CONNECTIONS,
            ),
        ],
        "actions": [above("shrink_heap", 0.9), above("stop_accepting_requests", 0.95)],
    }


def _public(settings: Settings, *, proxied: bool) -> JSON:
    proxy = typed(
        "envoy.filters.listener.proxy_protocol",
        "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        allow_requests_without_proxy_protocol=True,
    )
    return {
        "name": "proxied" if proxied else "plain",
        "address": _socket(settings.address, settings.proxied_port if proxied else settings.plain_port),
        # The buffer filter can raise this bound, not lower it, and sees no excess that comes with the last bytes:
        # a route refuses longer bodies by their announced length, the services count again.
        "per_connection_buffer_limit_bytes": envoy_routes.BODY_BYTES,
        "listener_filters": [proxy] if proxied else [],
        "listener_filters_timeout": "5s",
        "socket_options": [
            _option(9, 1),
            _option(4, 60, level=6),
            _option(5, 15, level=6),
            _option(18, UNACKNOWLEDGED_MS, level=6),
            _option(7, SEND_BUFFER_BYTES),
        ],
        "filter_chains": [{"filters": [_connection_manager(settings)]}],
    }


def _option(name: int, value: int, level: int = 1) -> JSON:
    """A socket option of Linux, which connections take over from the listener: SO_KEEPALIVE (1, 9), TCP_KEEPIDLE (6, 4)
    and TCP_KEEPINTVL (6, 5) in seconds, TCP_USER_TIMEOUT (6, 18) in milliseconds, SO_SNDBUF (1, 7) in bytes."""
    return {"level": level, "name": name, "int_value": value, "state": "STATE_PREBIND"}


def _connection_manager(settings: Settings) -> JSON:
    return typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="public",
        server_name="podium",
        **_client_address(settings),
        internal_address_config={"unix_sockets": False},
        # Paths stay as they are: the client has signed them.
        normalize_path=False,
        merge_slashes=False,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        max_request_headers_kb=HEADER_KIB,
        request_headers_timeout="10s",
        request_timeout="15s",
        stream_idle_timeout="75s",
        drain_timeout="5s",
        delayed_close_timeout="1s",
        common_http_protocol_options={
            "idle_timeout": "75s",
            "max_headers_count": 64,
            "headers_with_underscores_action": "DROP_HEADER",
        },
        http2_protocol_options={
            "max_concurrent_streams": 128,
            "initial_stream_window_size": 65536,
            "initial_connection_window_size": 1048576,
        },
        http_filters=_http_filters(settings),
        route_config=envoy_routes.route_configuration(),
        local_reply_config=envoy_problems.local_reply_config(),
        access_log=[_access_log()],
        tracing=_tracing(settings),
    )


def _client_address(settings: Settings) -> JSON:
    """Who the client is: the peer, or what a trusted proxy says, read from the right."""
    if not settings.trusted_proxies:
        return {"use_remote_address": True}
    networks = [
        {"address_prefix": network.partition("/")[0], "prefix_len": int(network.partition("/")[2])}
        for network in settings.trusted_proxies
    ]
    detection = typed(
        "envoy.http.original_ip_detection.xff",
        "extensions.http.original_ip_detection.xff.v3.XffConfig",
        xff_trusted_cidrs={"cidrs": networks},
        skip_xff_append=False,
    )
    return {"use_remote_address": False, "original_ip_detection_extensions": [detection]}


def _http_filters(settings: Settings) -> list[JSON]:
    own_headers = {"key_matcher": {"prefix": "x-podium-", "ignore_case": True}}
    foreign = {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}
    trace = {
        "header": {"key": envoy_problems.TRACE_HEADER, "value": "%TRACE_ID%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    internal = (ratelimit.LIMIT_HEADER, ratelimit.REMAINING_HEADER, ratelimit.RESET_HEADER)
    return [
        typed(
            "envoy.filters.http.header_mutation",
            "extensions.filters.http.header_mutation.v3.HeaderMutation",
            mutations={
                "request_mutations": [
                    {"remove_on_match": own_headers},
                    {"remove_on_match": foreign},
                    {"append": trace},
                ],
                "response_mutations": [{"remove": name} for name in internal],
            },
        ),
        # Before the filters that ask others: while those wait, nothing would notice that a body grows too long.
        typed(
            "envoy.filters.http.buffer",
            "extensions.filters.http.buffer.v3.Buffer",
            max_request_bytes=envoy_routes.BODY_BYTES,
        ),
        typed(
            envoy_routes.JWT_METADATA,
            "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            providers={
                envoy_routes.JWT_PAYLOAD: {
                    "local_jwks": {"filename": settings.jwks_path},
                    "forward": True,
                    "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
                    "payload_in_metadata": envoy_routes.JWT_PAYLOAD,
                    "jwt_cache_config": {"jwt_cache_size": 4096},
                }
            },
            # Only to know whose request it is; whether it is allowed, the service decides.
            rules=[
                {
                    "match": {"path": envoy_routes.UPDATE_PATH},
                    "requires": {
                        "requires_any": {
                            "requirements": [
                                {"provider_name": envoy_routes.JWT_PAYLOAD},
                                {"allow_missing_or_failed": {}},
                            ]
                        }
                    },
                }
            ],
        ),
        typed(
            "envoy.filters.http.ratelimit",
            "extensions.filters.http.ratelimit.v3.RateLimit",
            domain=ratelimit.DOMAIN,
            timeout="0.1s",
            # Without the service requests pass: the exact limit is the scores service's. Counted as
            # ratelimit.failure_mode_allowed.
            failure_mode_deny=False,
            rate_limit_service={
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": ratelimit.COMPONENT}},
            },
        ),
        typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
    ]


def _access_log() -> JSON:
    """One JSON line for each request; no query, no credentials."""
    return typed(
        "envoy.access_loggers.stdout",
        "extensions.access_loggers.stream.v3.StdoutAccessLog",
        log_format={
            "json_format": {
                "timestamp": "%START_TIME%",
                "level": "info",
                "event": "request",
                "service": "podium-gateway",
                "method": "%REQ(:METHOD)%",
                "path": "%PATH(NQ)%",
                "protocol": "%PROTOCOL%",
                "status": "%RESPONSE_CODE%",
                "flags": "%RESPONSE_FLAGS%",
                "reason": "%RESPONSE_CODE_DETAILS%",
                "duration_ms": "%DURATION%",
                "bytes_received": "%BYTES_RECEIVED%",
                "bytes_sent": "%BYTES_SENT%",
                "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "upstream": "%UPSTREAM_HOST%",
                "request_id": "%REQ(X-REQUEST-ID)%",
                "trace_id": "%TRACE_ID%",
            }
        },
    )


def _tracing(settings: Settings) -> JSON:
    """W3C trace context always; spans are exported only where there is an endpoint.

    The tracer insists on an exporter: without an endpoint it is one that is never used, because nothing is sampled.
    """
    endpoint = settings.otlp_endpoint or "http://127.0.0.1"
    ratio = settings.trace_sample_ratio if settings.otlp_endpoint else 0.0
    exporter = {"uri": f"{endpoint.rstrip('/')}/v1/traces", "cluster": "otlp", "timeout": "2s"}
    return {
        "client_sampling": {"value": 0},
        "random_sampling": {"value": round(ratio * 100, 4)},
        "overall_sampling": {"value": 100 if settings.otlp_endpoint else 0},
        "max_path_tag_length": 256,
        "provider": typed(
            "envoy.tracers.opentelemetry",
            "config.trace.v3.OpenTelemetryConfig",
            service_name="podium-gateway",
            http_service={"http_uri": exporter},
        ),
    }


def _internal(settings: Settings) -> JSON:
    """Probes and metrics. The admin interface itself stays on the loopback address.

    They are answered in an overload, too: a gateway that is restarted for it loses all its connections, and meets them
    again at once.
    """
    manager = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="internal",
        http_filters=[
            typed(
                "envoy.filters.http.health_check",
                "extensions.filters.http.health_check.v3.HealthCheck",
                pass_through_mode=False,
                headers=[{"name": ":path", "string_match": {"exact": "/healthz/ready"}}],
            ),
            typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"),
        ],
        route_config={
            "virtual_hosts": [
                {
                    "name": "internal",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"path": "/healthz/live"}, "direct_response": {"status": 200}},
                        {
                            "match": {"path": "/metrics"},
                            "route": {"cluster": "admin", "prefix_rewrite": "/stats/prometheus?usedonly"},
                        },
                    ],
                }
            ]
        },
    )
    return {
        "name": "internal",
        "address": _socket(settings.address, settings.internal_port),
        "bypass_overload_manager": True,
        "ignore_global_conn_limit": True,
        "filter_chains": [{"filters": [manager]}],
    }


def _clusters(settings: Settings) -> list[JSON]:
    made = [_service(name, settings) for name in envoy_routes.SERVICES]
    made.append(_ratelimit_cluster(*settings.endpoints[ratelimit.COMPONENT]))
    made.append(_cluster("admin", "127.0.0.1", settings.admin_port))
    made.append(_collector(settings.otlp_endpoint))
    return made


def _collector(endpoint: str | None) -> JSON:
    if not endpoint:
        return {"name": "otlp", "type": "STATIC", "connect_timeout": "1s"}
    target = urlsplit(endpoint)
    host, tls = target.hostname or "", target.scheme == "https"
    cluster = _cluster("otlp", host, target.port or (443 if tls else 80))
    if tls:
        names = [{"san_type": "DNS", "matcher": {"exact": host}}]
        authorities = {"filename": "/etc/ssl/certs/ca-certificates.crt"}
        cluster["transport_socket"] = typed(
            "envoy.transport_sockets.tls",
            "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            sni=host,
            common_tls_context={
                "validation_context": {"trusted_ca": authorities, "match_typed_subject_alt_names": names}
            },
        )
    return cluster


def _cluster(name: str, host: str, port: int, fallback: tuple[str, int] | None = None) -> JSON:
    addresses = [(host, port), *([fallback] if fallback else [])]
    return {
        "name": name,
        # Each address that the name has is an endpoint of its own.
        "cluster_type": typed(
            "envoy.cluster.dns",
            "extensions.clusters.dns.v3.DnsCluster",
            dns_lookup_family="V4_PREFERRED",
            dns_refresh_rate="1s",
            dns_failure_refresh_rate={"base_interval": "0.5s", "max_interval": "2s"},
        ),
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"priority": priority, "lb_endpoints": [{"endpoint": {"address": _socket(*address)}}]}
                for priority, address in enumerate(addresses)
            ],
        },
    }


def _protocol(**fields: object) -> JSON:
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
            **fields,
        }
    }


def _service(name: str, settings: Settings) -> JSON:
    """A service: its pods and, when none of those that are known is healthy, its Service.

    The names of pods are as old as DNS caches let them be, up to a minute on usual clusters: after a roll-out that was
    quicker, all known pods are gone. The address of a Service stays, and behind it are the pods of now.
    """
    return {
        **_cluster(name, *settings.endpoints[name], settings.fallbacks.get(name)),
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": _protocol(
            explicit_http_config={"http_protocol_options": {}},
            common_http_protocol_options={"idle_timeout": UPSTREAM_IDLE},
        ),
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": CONNECTIONS,
                    "max_pending_requests": 1024,
                    "max_requests": CONNECTIONS,
                    "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 5},
                }
            ]
        },
        "outlier_detection": {
            # Only for a pod that does not answer: a service that says 503 is right about its store.
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "consecutive_5xx": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "interval": "2s",
            "base_ejection_time": "5s",
            "max_ejection_time": "30s",
            "max_ejection_percent": 50,
        },
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "1s",
                "interval_jitter": "0.2s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/healthz/ready"},
            }
        ],
        "ignore_health_on_host_removal": True,
    }


def _ratelimit_cluster(host: str, port: int) -> JSON:
    return {
        **_cluster(ratelimit.COMPONENT, host, port),
        "lb_policy": "ROUND_ROBIN",
        "typed_extension_protocol_options": _protocol(
            explicit_http_config={
                "http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "2s"}}
            }
        ),
        "outlier_detection": {"consecutive_gateway_failure": 3, "interval": "2s", "base_ejection_time": "5s"},
    }
