"""The published OpenAPI document is one of several, without contradictions."""

import pytest

from checks.openapi import ConflictError, Document, merge


def _part(path: str, *, schema: Document | None = None, title: str = "part") -> Document:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": {path: {"get": {"responses": {}}}, "/healthz/live": {"get": {"responses": {}}}},
        "components": {"schemas": {"Problem": schema or {"type": "object"}}},
    }


def test_paths_of_all_services_are_there_and_say_whose_they_are() -> None:
    """Each operation is tagged with its service."""
    merged = merge({"scores": _part("/api/v1/a"), "auth": _part("/.well-known/b")})
    assert list(merged["paths"]) == ["/.well-known/b", "/api/v1/a"]
    assert merged["paths"]["/api/v1/a"]["get"]["tags"] == ["scores"]


def test_only_public_paths_are_published() -> None:
    """Health checks are not for clients."""
    assert "/healthz/live" not in merge({"scores": _part("/api/v1/a")})["paths"]


def test_an_operation_served_twice_is_refused() -> None:
    """The gateway could only reach one of them."""
    with pytest.raises(ConflictError, match="/api/v1/a is served twice"):
        merge({"scores": _part("/api/v1/a"), "auth": _part("/api/v1/a")})


def test_one_name_with_two_meanings_is_refused() -> None:
    """A shared component must be the same everywhere."""
    with pytest.raises(ConflictError, match="Problem of auth differs"):
        merge({"scores": _part("/api/v1/a"), "auth": _part("/api/v1/b", schema={"type": "string"})})
