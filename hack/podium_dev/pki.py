"""Certificates and kubeconfigs of a local cluster, made by kubeadm."""

from __future__ import annotations

from pathlib import Path

from podium_dev import toolchain, versions
from podium_dev.instance import Instance
from podium_dev.shell import run

_YEAR_HOURS = 8760


def directory(instance: Instance) -> Path:
    """Where the certificates lie."""
    return instance.state / "pki"


def kubeconfig(instance: Instance, component: str) -> Path:
    """The kubeconfig of a component of the node (`kubelet`, `scheduler`, …)."""
    return instance.state / "kubeconfigs" / f"{component}.conf"


def create(instance: Instance) -> None:
    """Make every key, certificate and kubeconfig of the cluster.

    Raises StageError if kubeadm fails.
    """
    kubeadm = toolchain.ensure("kubeadm")
    configuration = instance.state / "kubeadm.yaml"
    configuration.write_text(_configuration(instance))
    log = instance.log("kubeadm")
    run([kubeadm, "init", "phase", "certs", "all", "--config", configuration], log=log)
    target = kubeconfig(instance, "admin").parent
    for component in ("admin", "super-admin", "kubelet", "controller-manager", "scheduler"):
        run(
            [kubeadm, "init", "phase", "kubeconfig", component, "--config", configuration, "--kubeconfig-dir", target],
            log=log,
        )
    proxy = run([kubeadm, "kubeconfig", "user", "--client-name", "system:kube-proxy", "--config", configuration])
    _write_secret(kubeconfig(instance, "kube-proxy"), proxy)
    _write_secret(instance.kubeconfig, kubeconfig(instance, "admin").read_text())


def _configuration(instance: Instance) -> str:
    return f"""\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: {instance.node_address}
  bindPort: 6443
nodeRegistration:
  name: {instance.node_name}
  criSocket: unix://{instance.containerd_socket}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: {instance.node_name}
kubernetesVersion: {versions.KUBERNETES}
certificatesDir: {directory(instance)}
caCertificateValidityPeriod: {10 * _YEAR_HOURS}h0m0s
networking:
  serviceSubnet: {instance.service_cidr}
  podSubnet: {instance.pod_cidr}
apiServer:
  certSANs: ["127.0.0.1", "localhost"]
"""


def _write_secret(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
