"""Who is the API server, and on whose behalf it asks: the rules of the aggregation layer, by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from podium_operator.connection_metrics.callers import FrontProxy, NotPublished, Unauthenticated, User

PUBLISHED = {
    "requestheader-client-ca-file": "-----BEGIN CERTIFICATE-----",
    "requestheader-allowed-names": '["front-proxy-client","aggregator"]',
    "requestheader-username-headers": '["X-Remote-User"]',
    "requestheader-uid-headers": '["X-Remote-Uid"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
}


def _certificate(name: str) -> dict[str, Any]:
    """In the form of SSLSocket.getpeercert."""
    return {"subject": ((("organizationName", "x"),), (("commonName", name),))}


def _user(headers: list[tuple[str, str]], certificate: Any = None, **published: str) -> User:
    proxy = FrontProxy.read({**PUBLISHED, **published})
    certificate = _certificate("front-proxy-client") if certificate is None else certificate
    return proxy.user(certificate, CIMultiDictProxy(CIMultiDict(headers)))


def test_the_headers_name_the_user_with_groups_and_extras() -> None:
    """Names of headers are equal in any case; keys of extras are percent-encoded, and lower case."""
    user = _user(
        [
            ("x-remote-user", "ann"),
            ("X-Remote-Uid", "7"),
            ("X-Remote-Group", "players"),
            ("x-remote-group", "admins"),
            ("X-Remote-Extra-Scopes%2Fx", "a"),
            ("x-remote-extra-scopes%2fX", "b"),
        ]
    )
    assert user == User("ann", "7", ("players", "admins", "system:authenticated"), (("scopes/x", ("a", "b")),))


@pytest.mark.parametrize(
    "certificate", [{}, _certificate("kubelet"), {"subject": ()}], ids=["none", "other", "no name"]
)
def test_another_certificate_is_nobody(certificate: Any) -> None:
    """The headers do not count."""
    with pytest.raises(Unauthenticated):
        _user([("X-Remote-User", "ann")], certificate)


def test_without_allowed_names_the_authority_alone_decides() -> None:
    """An empty list means any name, as in Kubernetes."""
    user = _user([("X-Remote-User", "ann")], _certificate("anything"), **{"requestheader-allowed-names": "[]"})
    assert user.name == "ann"


@pytest.mark.parametrize("headers", [[], [("X-Remote-User", "")], [("X-Forwarded-User", "ann")]])
def test_a_request_without_a_user_is_refused(headers: list[tuple[str, str]]) -> None:
    """Groups alone, or other headers, are no user."""
    with pytest.raises(Unauthenticated):
        _user([*headers, ("X-Remote-Group", "system:masters")])


def test_uid_headers_may_be_absent() -> None:
    """API servers before 1.32 do not publish them."""
    proxy = FrontProxy.read({key: value for key, value in PUBLISHED.items() if "uid" not in key})
    headers = CIMultiDictProxy(CIMultiDict([("X-Remote-User", "ann"), ("X-Remote-Uid", "7")]))
    assert proxy.user(_certificate("aggregator"), headers).uid == ""


@pytest.mark.parametrize(
    "data",
    [{}, {**PUBLISHED, "requestheader-username-headers": "X-Remote-User"}],
    ids=["aggregation layer off", "not a list"],
)
def test_what_cannot_be_understood_is_not_trusted(data: dict[str, str]) -> None:
    """No authority, or names in another form: nobody is let in."""
    with pytest.raises(NotPublished):
        FrontProxy.read(data)
