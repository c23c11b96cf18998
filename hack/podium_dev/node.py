"""Life of the local cluster's node: up, down, and clearing what a killed run left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from podium_dev import addons, host, pki, toolchain, units
from podium_dev.console import Stage, StageError, stage
from podium_dev.instance import Instance
from podium_dev.kubectl import Kubectl
from podium_dev.shell import run, succeeds, wait_until

_READY_SECONDS = 90
_V1_WITHOUT_DEFAULTS = "cpuset"
"""A new cpuset cgroup (v1) has no processors until somebody sets them: the node's own processes stay outside."""


def up(instance: Instance) -> None:
    """Bring the node to Ready and start its add-ons; a running one is only brought up to date.

    Raises StageError if a step fails.
    """
    if not is_running(instance):
        if host.processes(instance) or instance.kubeconfig.exists():
            with stage("Clear what an earlier run left"):
                _clear(instance)
                instance.save()
        with stage("Start the Kubernetes node") as shown:
            _prepare(instance)
            process = _start(instance)
            _wait_alive(process, instance, shown, "containerd", _containerd_answers)
            addons.import_images(instance)
            _wait_alive(process, instance, shown, "kube-apiserver", _api_answers)
            addons.apply(instance)
            _wait_node(instance, shown)
        (instance.state / "complete").touch()
    else:
        with stage("Bring the cluster's add-ons up to date"):
            addons.import_images(instance)
            addons.apply(instance)


def wait_addons(instance: Instance) -> None:
    """Wait for DNS and volumes, which come up while other things are done.

    Raises StageError after two minutes.
    """
    with stage("Cluster DNS and volumes") as shown:
        addons.wait_ready(instance, shown)


def down(instance: Instance) -> None:
    """Remove the cluster and everything it changed on this machine; the cache stays.

    Raises StageError if something resists.
    """
    _clear(instance)
    host.delete_state(instance)
    host.restore_sysctls()


def is_running(instance: Instance) -> bool:
    """Whether the node was brought up completely and its processes live."""
    return (
        (instance.state / "complete").exists()
        and host.has_network(instance)
        and bool(host.processes(instance, "node"))
        and _api_answers(instance)
    )


def _clear(instance: Instance) -> None:
    """End everything of the instance; keep only its choice of network and ports, and its logs."""
    host.kill(instance)
    host.delete_network(instance)
    host.delete_cgroup(instance)
    for path in instance.state.iterdir():
        if path.name not in ("instance.json", "cluster.json", "log"):
            run(["rm", "-rf", "--one-file-system", path])


def _prepare(instance: Instance) -> None:
    """Files, network and cgroup of a fresh node."""
    for directory in ("log", "run", "cni", "volumes", "kubeconfigs"):
        (instance.state / directory).mkdir(parents=True, exist_ok=True)
    instance.state.chmod(0o711)
    (instance.state / "volumes").chmod(0o711)
    host.remember_sysctls()
    host.create_network(instance)
    host.create_cgroup(instance)
    pki.create(instance)
    pause = addons.images()["pause"].reference
    for name, content in units.files(instance, pause, _snapshotter(instance.state)).items():
        (instance.state / name).write_text(content)
    (instance.state / "units.json").write_text(json.dumps(units.units(instance, toolchain.ensure)))


def _start(instance: Instance) -> subprocess.Popen[bytes]:
    """Start the node's init in new mount and PID namespaces, inside the instance's network namespace and cgroup.

    `--kill-child` and the PID namespace see to it that no process of the node outlives its init.
    """
    memberships = [str(path) for path in _node_cgroups(instance)]
    enter = 'for procs in "$@"; do echo $$ > "$procs"; done'
    become = (
        f"exec nsenter --net=/run/netns/{instance.netns}"
        " unshare --mount --propagation=private --pid --fork --kill-child=SIGKILL --mount-proc"
        f' "{sys.executable}" -m podium_dev.supervisor "{instance.state}"'
    )
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        host.MARKER: f"{instance.id}/node",
    }
    with instance.log("supervisor").open("ab") as log:
        return subprocess.Popen(
            ["sh", "-euc", f"{enter}; {become}", "node", *memberships],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            start_new_session=True,
        )


def _node_cgroups(instance: Instance) -> list[Path]:
    made = []
    for hierarchy in host.cgroup_hierarchies():
        if hierarchy.name == _V1_WITHOUT_DEFAULTS:
            continue
        group = hierarchy / instance.cgroup / "node"
        group.mkdir(exist_ok=True)
        made.append(group / "cgroup.procs")
    return made


def _snapshotter(state: Path) -> str:
    """overlayfs cannot lie on top of another overlay, as inside a container: there, copies are made."""
    kind = run(["stat", "--file-system", "--format=%T", state]).strip()
    return "native" if kind in ("overlayfs", "tmpfs") else "overlayfs"


def _containerd_answers(instance: Instance) -> bool:
    return instance.containerd_socket.exists() and succeeds(
        ["ctr", "--address", instance.containerd_socket, "version"], 5
    )


def _api_answers(instance: Instance) -> bool:
    admin = pki.kubeconfig(instance, "super-admin")
    return admin.exists() and succeeds(Kubectl(admin).argv("get", "--raw=/readyz", "--request-timeout=3s"), 10)


def _wait_alive(
    process: subprocess.Popen[bytes],
    instance: Instance,
    shown: Stage,
    name: str,
    answers: Callable[[Instance], bool],
) -> None:
    def missing() -> str | None:
        if process.poll() is not None:
            raise StageError("the node's processes ended", instance.log("supervisor"))
        return None if answers(instance) else name

    wait_until(missing, timeout=_READY_SECONDS, stage=shown, log=instance.log(name))


def _wait_node(instance: Instance, shown: Stage) -> None:
    kubectl = Kubectl(instance.kubeconfig)

    def missing() -> str | None:
        node = kubectl.get("node", instance.node_name)
        conditions = node["status"].get("conditions", []) if node else []
        ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
        return None if ready else "the node to be Ready"

    wait_until(missing, timeout=_READY_SECONDS, stage=shown, log=instance.log("kubelet"))


def uid_zero() -> None:
    """Refuse to go on without root.

    Raises StageError for any other user.
    """
    if os.geteuid() != 0:
        raise StageError("the local cluster needs root (network namespaces, mounts, cgroups)")
