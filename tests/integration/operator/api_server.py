"""A real API server on real etcd, without controllers and nodes: the tests play those.

Authorisation is RBAC, so what the operator may do here is what the chart gives it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from kubernetes.aio import client

from podium_dev import toolchain
from podium_operator.cluster import Cluster
from tests.integration.operator.front_proxy import Authority
from tests.support.processes import Process, free_ports, scratch_directory

OPERATOR_USER = "system:serviceaccount:podium-system:podium-operator"
"""The user name of the operator's ServiceAccount, as the chart names it for the release `podium`."""

METRICS_USER = "system:serviceaccount:podium-system:podium-connection-metrics"
"""That of the ServiceAccount of the metrics server."""

AUTOSCALER_USER = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
"""As whom kube-controller-manager asks for metrics; Kubernetes itself gives it the right to."""

FRONT_PROXY = "front-proxy-client"
"""Common name of the certificate by which the API server proves itself to servers behind it."""


@dataclass(frozen=True)
class ApiServer:
    """Where the API server listens, tokens for its users, and how it proves itself to servers behind it."""

    url: str
    ca_file: Path
    admin_token: str
    operator_token: str
    metrics_token: str
    autoscaler_token: str
    stranger_token: str
    """Of a user without any rights of its own."""
    front_proxy: Authority

    def connect(self, token: str) -> Cluster:
        """A connection as the owner of the token."""
        configuration = client.Configuration(host=self.url)
        configuration.ssl_ca_cert = str(self.ca_file)
        configuration.api_key = {"BearerToken": token}
        configuration.api_key_prefix = {"BearerToken": "Bearer"}
        return Cluster(client.ApiClient(configuration))

    def kubeconfig(self, file: Path, token: str) -> Path:
        """Write what leads a process here as the owner of the token, and return the path."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        file.write_text(json.dumps(content))
        return file


@contextlib.contextmanager
def running_controllers(api_server: ApiServer, folder: Path, *names: str) -> Iterator[None]:
    """kube-controller-manager with nothing but these of its controllers; the autoscaler looks every second."""
    process = Process(
        [
            str(toolchain.ensure("kube-controller-manager")),
            f"--kubeconfig={api_server.kubeconfig(folder / 'controllers.kubeconfig', api_server.admin_token)}",
            f"--controllers={','.join(names)}",
            "--horizontal-pod-autoscaler-sync-period=1s",
            "--leader-elect=false",
            "--secure-port=0",
        ],
        folder / "controller-manager.log",
        lambda: True,
    )
    process.start()
    try:
        yield
    finally:
        process.stop()


def _write_service_account_keys(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "sa.key").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "sa.pub").write_bytes(public)


def _answers(url: str) -> bool:
    context = ssl._create_unverified_context()
    with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, context=context) as answer:
        return bool(answer.status == 200)
    return False


@contextlib.contextmanager
def running_api_server() -> Iterator[ApiServer]:
    """etcd and kube-apiserver on free ports of 127.0.0.1."""
    etcd_port, peer_port, port = free_ports(3)
    with scratch_directory() as folder, contextlib.ExitStack() as running:
        _write_service_account_keys(folder)
        front_proxy = Authority.create()
        client_certificate = front_proxy.client(folder / "front-proxy.pem", FRONT_PROXY)
        (folder / "front-proxy-ca.pem").write_text(front_proxy.certificate)
        users = {
            "admin": ("admin", "system:masters"),
            "operator": (OPERATOR_USER, "system:serviceaccounts"),
            "metrics": (METRICS_USER, "system:serviceaccounts"),
            "autoscaler": (AUTOSCALER_USER, "system:serviceaccounts"),
            "stranger": ("stranger", "strangers"),
        }
        tokens = {name: secrets.token_hex(16) for name in users}
        token_file = folder / "tokens.csv"
        token_file.write_text("".join(f"{tokens[n]},{user},{n},{group}\n" for n, (user, group) in users.items()))
        etcd = Process(
            [
                str(toolchain.ensure("etcd")),
                f"--data-dir={folder}/etcd",
                f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
                f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
                "--unsafe-no-fsync",
            ],
            folder / "etcd.log",
            lambda: _answers(f"http://127.0.0.1:{etcd_port}/health"),
        )
        server = Process(
            [
                str(toolchain.ensure("kube-apiserver")),
                f"--etcd-servers=http://127.0.0.1:{etcd_port}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={folder}/certs",
                f"--token-auth-file={token_file}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={folder}/sa.pub",
                f"--service-account-signing-key-file={folder}/sa.key",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--disable-admission-plugins=ServiceAccount",
                f"--requestheader-client-ca-file={folder}/front-proxy-ca.pem",
                f"--requestheader-allowed-names={FRONT_PROXY}",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={client_certificate}",
                f"--proxy-client-key-file={client_certificate}",
            ],
            folder / "apiserver.log",
            lambda: _answers(f"https://127.0.0.1:{port}/readyz"),
        )
        for process in (etcd, server):
            process.start()
            running.callback(process.stop)
            process.wait_ready(60)
        yield ApiServer(
            f"https://127.0.0.1:{port}",
            folder / "certs" / "apiserver.crt",
            **{f"{name}_token": token for name, token in tokens.items()},
            front_proxy=front_proxy,
        )
