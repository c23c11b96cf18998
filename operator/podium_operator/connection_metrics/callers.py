"""Who asks: the API server, by its client certificate, on behalf of a user that its headers name. Pure.

The way of the aggregation layer: kube-apiserver has authenticated the user and proxies the request with a certificate
of the authority, and under the names, that the ConfigMap `kube-system/extension-apiserver-authentication` publishes.
Headers of anybody else are worth nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from multidict import CIMultiDictProxy

AUTHENTICATION_NAMESPACE = "kube-system"
AUTHENTICATION_CONFIG = "extension-apiserver-authentication"
"""ConfigMap in which kube-apiserver publishes how it proves itself."""

ANONYMOUS = "system:anonymous"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
"""A user and two groups that Kubernetes gives out itself."""


class Unauthenticated(Exception):
    """The request does not come from the API server, or names no user; the message says which."""


class NotPublished(Exception):
    """The API server does not say how it proves itself: its aggregation layer is not set up."""


@dataclass(frozen=True)
class User:
    """Somebody whom the API server has authenticated."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class FrontProxy:
    """How the API server proves itself, and which headers name its user."""

    authority: str
    """Certificates (PEM) that sign the API server's client certificate."""
    allowed_names: frozenset[str]
    """Common names that it may have; any if there is none."""
    user_headers: tuple[str, ...]
    uid_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]

    @classmethod
    def read(cls, data: Mapping[str, str]) -> FrontProxy:
        """From the data of the ConfigMap. Raises NotPublished."""
        try:
            return cls(
                authority=data["requestheader-client-ca-file"],
                allowed_names=frozenset(_names(data, "requestheader-allowed-names")),
                user_headers=_names(data, "requestheader-username-headers"),
                uid_headers=_names(data, "requestheader-uid-headers"),
                group_headers=_names(data, "requestheader-group-headers"),
                extra_prefixes=_names(data, "requestheader-extra-headers-prefix"),
            )
        except (KeyError, ValueError) as error:
            raise NotPublished(f"{AUTHENTICATION_CONFIG} cannot be used: {error!r}") from error

    def user(self, certificate: Mapping[str, Any] | None, headers: CIMultiDictProxy[str]) -> User:
        """The user of a request. `certificate` is the verified one of the peer, as `SSLSocket.getpeercert` has it.

        Raises Unauthenticated.
        """
        if not certificate:
            raise Unauthenticated("only the API server may ask, with its client certificate")
        if self.allowed_names and not self.allowed_names & set(_common_names(certificate)):
            raise Unauthenticated("the client certificate is not the API server's")
        name = _first(headers, self.user_headers)
        if not name:
            raise Unauthenticated("the request names no user")
        groups = _with_authenticated(name, _all(headers, self.group_headers))
        return User(name, _first(headers, self.uid_headers), groups, self._extra(headers))

    def _extra(self, headers: CIMultiDictProxy[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        found: dict[str, list[str]] = {}
        for header, value in headers.items():
            for prefix in self.extra_prefixes:
                if header.lower().startswith(prefix.lower()):
                    found.setdefault(unquote(header[len(prefix) :]).lower(), []).append(value)
        return tuple((key, tuple(values)) for key, values in sorted(found.items()))


def _names(data: Mapping[str, str], key: str) -> tuple[str, ...]:
    """A list of names, as JSON text; none if it is absent."""
    return tuple(str(name) for name in json.loads(data.get(key) or "[]"))


def _common_names(certificate: Mapping[str, Any]) -> list[str]:
    return [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]


def _with_authenticated(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """The API server's own controllers, which read discovery, name no group: whoever is known is in this one."""
    if name == ANONYMOUS or {AUTHENTICATED, UNAUTHENTICATED} & set(groups):
        return groups
    return (*groups, AUTHENTICATED)


def _first(headers: CIMultiDictProxy[str], names: Sequence[str]) -> str:
    return next((headers[name] for name in names if headers.get(name)), "")


def _all(headers: CIMultiDictProxy[str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(value for name in names for value in headers.getall(name, []))
