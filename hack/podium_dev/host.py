"""What an instance changes on the host outside its state directory, and how that is undone.

That is: one network namespace with a veth pair and a route, one cgroup, some kernel settings that kubelet insists on,
and processes, which carry the instance's id in their environment. Mounts live in a private mount namespace and vanish
with the processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

from podium_dev.console import StageError
from podium_dev.instance import Instance, state_root
from podium_dev.shell import run, succeeds, wait_until

MARKER = "PODIUM_INSTANCE_ID"
"""Environment variable that marks every process of an instance."""

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_KUBELET_SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
"""Settings of the whole machine that kubelet sets when it starts (its `protectKernelDefaults`)."""
_GONE_SECONDS = 20


def create_network(instance: Instance) -> None:
    """Make the network namespace, its link to the host, and the host's route to pods and Services.

    The namespace gets no default route: nothing in it can reach anything but the host's end of the link.
    """
    delete_network(instance)
    run(["ip", "netns", "add", instance.netns])
    inside = ["ip", "-n", instance.netns]
    run(
        [
            "ip",
            "link",
            "add",
            instance.host_link,
            "type",
            "veth",
            "peer",
            "name",
            instance.node_link,
            "netns",
            instance.netns,
        ]
    )
    run(["ip", "address", "add", f"{instance.host_address}/30", "dev", instance.host_link])
    run(["ip", "link", "set", instance.host_link, "up"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "add", f"{instance.node_address}/30", "dev", instance.node_link])
    run([*inside, "link", "set", instance.node_link, "up"])
    # Without any route, connecting to a Service fails before kube-proxy's rules can redirect it to a pod. What the
    # rules do not know yet ends on the link, where nobody has that address.
    run([*inside, "route", "add", instance.service_cidr, "dev", instance.node_link])
    run(["ip", "route", "replace", instance.cidr, "via", instance.node_address, "dev", instance.host_link])


def delete_network(instance: Instance) -> None:
    """Remove the namespace and the link; the route goes with the link."""
    if Path("/sys/class/net", instance.host_link).exists():
        run(["ip", "link", "delete", instance.host_link])
    if Path("/run/netns", instance.netns).exists():
        run(["ip", "netns", "delete", instance.netns])


def has_network(instance: Instance) -> bool:
    """Whether namespace and link exist."""
    return Path("/run/netns", instance.netns).exists() and Path("/sys/class/net", instance.host_link).exists()


def processes(instance: Instance, role: str | None = None) -> list[int]:
    """Ids of the living processes of an instance; with `role`, only those started for it (`node`, `proxy`)."""
    wanted = f"{MARKER}={instance.id}" + (f"/{role}" if role else "")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                value = variable.decode(errors="replace")
                if value == wanted or (role is None and value.startswith(f"{wanted}/")):
                    found.append(int(entry.name))
    return found


def kill(instance: Instance, role: str | None = None) -> None:
    """End the processes of an instance and wait until they are gone.

    The node's first process is the init of a PID namespace: with it the kernel ends everything in it, containers too.

    Raises StageError if a process outlives SIGKILL.
    """

    def remaining() -> str | None:
        alive = processes(instance, role)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"the end of processes {alive}" if alive else None

    wait_until(remaining, timeout=_GONE_SECONDS, every=0.05)


def create_cgroup(instance: Instance) -> None:
    """Make the instance's cgroup in every hierarchy (cgroup v1) or in the one there is (v2)."""
    for hierarchy in cgroup_hierarchies():
        (hierarchy / instance.cgroup).mkdir(exist_ok=True)


def delete_cgroup(instance: Instance) -> None:
    """Remove the instance's cgroup with all below it, ending what may still run there.

    Raises StageError if a process in it cannot be ended.
    """
    for hierarchy in cgroup_hierarchies():
        top = hierarchy / instance.cgroup
        if not top.is_dir():
            continue

        def occupied(top: Path = top) -> str | None:
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    for pid in Path(directory, "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
            return f"the cgroup {top} to empty" if top.is_dir() else None

        wait_until(occupied, timeout=_GONE_SECONDS, every=0.05)


def remember_sysctls() -> None:
    """Write down the machine's own kernel settings before the first kubelet changes them."""
    remembered = state_root() / "sysctls.json"
    if not remembered.exists():
        values = {name: Path("/proc/sys", name).read_text().strip() for name in _KUBELET_SYSCTLS}
        remembered.write_text(json.dumps(values))


def restore_sysctls() -> None:
    """Put the kernel settings back once no instance has a node, and drop the empty directory of all instances.

    A state directory without `run` is that of an instance that never came so far, or of one that was cleared.
    """
    remembered = state_root() / "sysctls.json"
    if any((path / "run").is_dir() for path in state_root().iterdir()):
        return
    if not remembered.exists():
        _forget_root()
        return
    for name, value in json.loads(remembered.read_text()).items():
        path = Path("/proc/sys", name)
        if name in _KUBELET_SYSCTLS and path.read_text().strip() != value:
            with contextlib.suppress(OSError):  # a container may forbid it, to kubelet as well
                path.write_text(value)
    remembered.unlink()
    _forget_root()


def _forget_root() -> None:
    """Remove the directory of all instances after the last one."""
    if any(path.is_dir() for path in state_root().iterdir()):
        return
    (state_root() / ".lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another instance may be coming up this moment
        state_root().rmdir()


def delete_state(instance: Instance) -> None:
    """Remove the state directory.

    Raises StageError if something of it is still mounted in the host's own mount namespace.
    """
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((m for m in mounted if m.startswith(f"{instance.state}/")), reverse=True):
        if not succeeds(["umount", point]):
            raise StageError(f"{point} is still mounted")
    shutil.rmtree(instance.state, ignore_errors=False)
    (state_root() / f".{instance.id}.lock").unlink(missing_ok=True)


def resident_bytes(instance: Instance) -> int:
    """Memory of all processes of the instance, shared pages split among their users (PSS), in bytes."""
    total = 0
    pids = set(processes(instance))
    for hierarchy in cgroup_hierarchies():
        for directory, _, _ in os.walk(hierarchy / instance.cgroup):
            with contextlib.suppress(OSError):
                pids.update(int(pid) for pid in Path(directory, "cgroup.procs").read_text().split())
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def cgroup_hierarchies() -> list[Path]:
    """Roots of the cgroup hierarchies: those of cgroup v1's controllers and named ones, and that of v2."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = {Path(line.split()[4]) for line in mounts if " - cgroup " in line or " - cgroup2 " in line}
    return sorted(path for path in found if path.is_relative_to(_CGROUP_ROOT))
