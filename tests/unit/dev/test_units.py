"""The node's processes and files stay within the instance."""

import json
from pathlib import Path

from podium_dev.instance import Instance
from podium_dev.units import files, units


def test_every_path_and_address_is_the_instances() -> None:
    """No file of a node lies outside its state directory, and kubelet's cgroup is its own."""
    instance = Instance("0123abcd", 140)
    rendered = files(instance, "localhost/podium/pause:1", "overlayfs")
    assert "cgroupRoot: /podium-0123abcd" in rendered["kubelet.yaml"]
    assert f'root = "{instance.state}/containerd"' in rendered["containerd.toml"]
    ipam = json.loads(rendered["cni/10-podium.conflist"])["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.140.0.0/18"}]]
    assert ipam["dataDir"].startswith(str(instance.state))


def test_processes_wait_for_what_they_need() -> None:
    """kubelet needs containerd, the API server needs etcd, the others need the API server."""
    instance = Instance("0123abcd", 140)
    needs = {unit["name"]: unit["needs"] for unit in units(instance, lambda name: Path("/bin", name))}
    assert needs["containerd"] is None
    assert needs["kubelet"] == str(instance.containerd_socket)
    assert needs["kube-apiserver"] == "127.0.0.1:2379"
    assert needs["kube-scheduler"] == "10.140.128.2:6443"


def test_no_secret_is_on_a_command_line() -> None:
    """Keys and tokens are named by their files."""
    instance = Instance("0123abcd", 140)
    words = [word for unit in units(instance, lambda name: Path("/bin", name)) for word in unit["argv"]]
    assert not [word for word in words if "token=" in word or "password" in word]
