"""The processes of a node and their configuration files. Pure: everything is computed from the instance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from podium_dev import pki
from podium_dev.instance import Instance

CNI_PLUGINS = "/usr/lib/cni"
"""Where Debian puts the CNI plugins."""


class UnitSpec(TypedDict):
    """A process as `supervisor.Unit` reads it."""

    name: str
    argv: list[str]
    log: str
    needs: str | None


def units(instance: Instance, program: Callable[[str], Path]) -> list[UnitSpec]:
    """The node's processes in the order of their start; `program` finds the executable of a Kubernetes component."""
    certs, address = pki.directory(instance), instance.node_address
    etcd_url, api = "https://127.0.0.1:2379", f"{address}:6443"

    def unit(name: str, flags: dict[str, str], needs: str | None, executable: str | None = None) -> UnitSpec:
        argv = [executable or str(program(name)), *(f"--{flag}={value}" for flag, value in flags.items())]
        return {"name": name, "argv": argv, "log": str(instance.log(name)), "needs": needs}

    return [
        unit("containerd", {"config": str(instance.state / "containerd.toml")}, None, executable="/usr/bin/containerd"),
        unit(
            "etcd",
            {
                "name": instance.node_name,
                "data-dir": str(instance.state / "etcd"),
                "listen-client-urls": etcd_url,
                "advertise-client-urls": etcd_url,
                "listen-peer-urls": "https://127.0.0.1:2380",
                "cert-file": f"{certs}/etcd/server.crt",
                "key-file": f"{certs}/etcd/server.key",
                "client-cert-auth": "true",
                "trusted-ca-file": f"{certs}/etcd/ca.crt",
                "peer-cert-file": f"{certs}/etcd/peer.crt",
                "peer-key-file": f"{certs}/etcd/peer.key",
                "peer-client-cert-auth": "true",
                "peer-trusted-ca-file": f"{certs}/etcd/ca.crt",
                # The cluster's own state is not worth a disk flush: after a power cut it is made anew anyway.
                "unsafe-no-fsync": "true",
            },
            None,
        ),
        unit(
            "kube-apiserver",
            {
                "advertise-address": address,
                "bind-address": "0.0.0.0",
                "secure-port": "6443",
                "allow-privileged": "true",
                "authorization-mode": "Node,RBAC",
                "enable-admission-plugins": "NodeRestriction",
                "client-ca-file": f"{certs}/ca.crt",
                "tls-cert-file": f"{certs}/apiserver.crt",
                "tls-private-key-file": f"{certs}/apiserver.key",
                "etcd-servers": etcd_url,
                "etcd-cafile": f"{certs}/etcd/ca.crt",
                "etcd-certfile": f"{certs}/apiserver-etcd-client.crt",
                "etcd-keyfile": f"{certs}/apiserver-etcd-client.key",
                "kubelet-client-certificate": f"{certs}/apiserver-kubelet-client.crt",
                "kubelet-client-key": f"{certs}/apiserver-kubelet-client.key",
                "kubelet-preferred-address-types": "InternalIP",
                "proxy-client-cert-file": f"{certs}/front-proxy-client.crt",
                "proxy-client-key-file": f"{certs}/front-proxy-client.key",
                "requestheader-client-ca-file": f"{certs}/front-proxy-ca.crt",
                "requestheader-allowed-names": "front-proxy-client",
                "requestheader-username-headers": "X-Remote-User",
                "requestheader-group-headers": "X-Remote-Group",
                "requestheader-extra-headers-prefix": "X-Remote-Extra-",
                "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
                "service-account-key-file": f"{certs}/sa.pub",
                "service-account-signing-key-file": f"{certs}/sa.key",
                "service-cluster-ip-range": instance.service_cidr,
            },
            "127.0.0.1:2379",
        ),
        unit(
            "kube-controller-manager",
            {
                "kubeconfig": str(pki.kubeconfig(instance, "controller-manager")),
                "authentication-kubeconfig": str(pki.kubeconfig(instance, "controller-manager")),
                "authorization-kubeconfig": str(pki.kubeconfig(instance, "controller-manager")),
                "bind-address": "127.0.0.1",
                "client-ca-file": f"{certs}/ca.crt",
                "requestheader-client-ca-file": f"{certs}/front-proxy-ca.crt",
                "root-ca-file": f"{certs}/ca.crt",
                "cluster-signing-cert-file": f"{certs}/ca.crt",
                "cluster-signing-key-file": f"{certs}/ca.key",
                "service-account-private-key-file": f"{certs}/sa.key",
                "use-service-account-credentials": "true",
                "leader-elect": "false",
            },
            api,
        ),
        unit(
            "kube-scheduler",
            {
                "kubeconfig": str(pki.kubeconfig(instance, "scheduler")),
                "authentication-kubeconfig": str(pki.kubeconfig(instance, "scheduler")),
                "authorization-kubeconfig": str(pki.kubeconfig(instance, "scheduler")),
                "bind-address": "127.0.0.1",
                "leader-elect": "false",
            },
            api,
        ),
        unit("kube-proxy", {"config": str(instance.state / "kube-proxy.yaml")}, api),
        unit(
            "kubelet",
            {
                "config": str(instance.state / "kubelet.yaml"),
                "kubeconfig": str(pki.kubeconfig(instance, "kubelet")),
                "root-dir": str(instance.state / "kubelet"),
                "cert-dir": str(instance.state / "kubelet-pki"),
                "hostname-override": instance.node_name,
                "node-ip": address,
            },
            str(instance.containerd_socket),
        ),
    ]


def files(instance: Instance, pause_image: str, snapshotter: str) -> dict[str, str]:
    """The configuration files of the processes: path relative to the state directory → content."""
    return {
        "containerd.toml": _containerd(instance, pause_image, snapshotter),
        "kubelet.yaml": _kubelet(instance),
        "kube-proxy.yaml": _kube_proxy(instance),
        "cni/10-podium.conflist": _cni(instance),
    }


def _containerd(instance: Instance, pause_image: str, snapshotter: str) -> str:
    return f"""\
version = 2
root = "{instance.state}/containerd"
state = "/run/containerd/podium"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{instance.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{instance.state}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  # A container without CAP_SYS_RESOURCE may not lower oom_score_adj, and every sandbox would fail to start.
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{instance.state}/cni"
"""


def _kubelet(instance: Instance) -> str:
    return f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {pki.directory(instance)}/ca.crt}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{instance.cgroup}
clusterDNS: [{instance.dns_address}]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://{instance.containerd_socket}
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
podLogsDir: {instance.state}/pod-logs
resolvConf: ""
serializeImagePulls: false
# Images are imported, not pulled: what the garbage collector removed could not come back.
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}}
"""


def _kube_proxy(instance: Instance) -> str:
    return f"""\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {pki.kubeconfig(instance, "kube-proxy")}}}
clusterCIDR: {instance.pod_cidr}
hostnameOverride: {instance.node_name}
mode: iptables
iptables: {{minSyncPeriod: 100ms}}
oomScoreAdj: 0
# The limits of connection tracking belong to the host's own network namespace.
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""


def _cni(instance: Instance) -> str:
    """Point-to-point links: answers between pods pass the routing layer, so Services work without br_netfilter."""
    return f"""\
{{
  "cniVersion": "0.4.0",
  "name": "podium",
  "plugins": [
    {{
      "type": "ptp",
      "ipam": {{
        "type": "host-local",
        "dataDir": "{instance.state}/ipam",
        "ranges": [[{{"subnet": "{instance.pod_cidr}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}]
      }}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"""
