"""A real API server on real etcd, without controllers and nodes: the tests play those.

Authorisation is RBAC, so what the operator may do here is what the chart gives it.
"""

from __future__ import annotations

import contextlib
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
from tests.support.processes import Process, free_ports, scratch_directory

OPERATOR_USER = "system:serviceaccount:podium-system:podium-operator"
"""The user name of the operator's ServiceAccount, as the chart names it for the release `podium`."""


@dataclass(frozen=True)
class ApiServer:
    """Where the API server listens, and tokens for its two users."""

    url: str
    ca_file: Path
    admin_token: str
    operator_token: str

    def connect(self, token: str) -> Cluster:
        """A connection as the owner of the token."""
        configuration = client.Configuration(host=self.url)
        configuration.ssl_ca_cert = str(self.ca_file)
        configuration.api_key = {"BearerToken": token}
        configuration.api_key_prefix = {"BearerToken": "Bearer"}
        return Cluster(client.ApiClient(configuration))


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
        admin, operator = secrets.token_hex(16), secrets.token_hex(16)
        tokens = folder / "tokens.csv"
        tokens.write_text(
            f"{admin},admin,admin,system:masters\n{operator},{OPERATOR_USER},operator,system:serviceaccounts\n"
        )
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
                f"--token-auth-file={tokens}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={folder}/sa.pub",
                f"--service-account-signing-key-file={folder}/sa.key",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--disable-admission-plugins=ServiceAccount",
            ],
            folder / "apiserver.log",
            lambda: _answers(f"https://127.0.0.1:{port}/readyz"),
        )
        for process in (etcd, server):
            process.start()
            running.callback(process.stop)
            process.wait_ready(60)
        yield ApiServer(f"https://127.0.0.1:{port}", folder / "certs" / "apiserver.crt", admin, operator)
