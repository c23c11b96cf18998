"""The gateway's table of routes against the operations that the services describe."""

import pytest

from checks.openapi import METHODS, PUBLIC_PREFIXES, SERVICES, document_of
from podium_operator.builders.envoy_routes import ROUTES, Route


def _route(path: str) -> Route:
    """The route that serves a path: the first that matches."""
    return next(route for route in ROUTES if path == route.path or (route.prefix and path.startswith(route.path)))


@pytest.mark.parametrize("service", SERVICES)
def test_every_public_operation_is_led_to_its_service(service: str) -> None:
    """What a service describes is reachable through the gateway, and at that service."""
    paths = {path: item for path, item in document_of(service)["paths"].items() if path.startswith(PUBLIC_PREFIXES)}
    assert paths
    for path, item in paths.items():
        route = _route(path)
        assert route.service == service, path
        allowed = {method.lower() for method in route.methods} or METHODS
        assert METHODS & set(item) <= allowed, path
