"""Ways to hurt a cluster: kill without notice, freeze, take away, wipe.

A pod is killed by SIGKILL of its containers' processes where the cluster's node runs on this machine (``make up``'s
local cluster): nothing can be saved or handed over, as in a power cut. Elsewhere, a forced deletion has to do, which
leaves a process about a second.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.truth import BOARD, Truth
from tests.support.instance import Instance, Object

OPERATOR_NAMESPACE = "podium-system"
OPERATOR_DEPLOYMENT = "podium-operator"
OPERATOR_LABEL = "app.kubernetes.io/name=podium-operator"


@dataclass
class Damage:
    """What can be done to one Scoreboard. ``begun`` is the moment of the first blow since it was set to None."""

    instance: Instance
    truth: Truth
    begun: float | None = None

    def _strike(self) -> None:
        """Note the moment."""
        if self.begun is None:
            self.begun = time.monotonic()

    async def pods(self, component: str) -> list[Object]:
        """The pods of a component."""
        return await asyncio.to_thread(self.instance.pods, component)

    async def kill(self, pods: Sequence[Object], *, namespace: str | None = None) -> None:
        """Kill pods without notice and delete them; their controllers make new ones."""
        self._strike()
        for pod in pods:
            _signal(pod, signal.SIGKILL)
        names = [pod["metadata"]["name"] for pod in pods]
        delete = ("delete", "pod", *names, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
        await asyncio.to_thread(self.instance.kubectl, *delete, namespace=namespace)

    async def freeze(self, pods: Sequence[Object]) -> None:
        """Stop all processes of pods: they hold their connections and say nothing."""
        self._strike()
        for pod in pods:
            assert _signal(pod, signal.SIGSTOP), "pods can only be frozen where the node runs on this machine"

    async def thaw(self, pods: Sequence[Object]) -> None:
        """Let frozen pods go on, as if no time had passed."""
        for pod in pods:
            _signal(pod, signal.SIGCONT)

    async def scale(self, component: str, replicas: int) -> None:
        """Scale a StatefulSet. While the operator runs, it puts it back."""
        target = f"statefulset/{self.instance.name}-{component}"
        await asyncio.to_thread(self.instance.kubectl, "scale", target, f"--replicas={replicas}")

    async def replicas(self, component: str) -> int:
        """The replicas that a StatefulSet should have."""
        found = await asyncio.to_thread(self.instance.get, "statefulset", f"{self.instance.name}-{component}")
        return int(found["spec"]["replicas"])

    async def scale_operator(self, replicas: int) -> None:
        """Scale the operator, so that it does or does not repair."""
        scale = ("scale", f"deployment/{OPERATOR_DEPLOYMENT}", f"--replicas={replicas}")
        await asyncio.to_thread(self.instance.kubectl, *scale, namespace=OPERATOR_NAMESPACE)

    async def kill_operator(self) -> None:
        """Kill the operator's pod."""
        get = ("get", "pods", "-l", OPERATOR_LABEL, "-o", "json")
        found = await asyncio.to_thread(self.instance.kubectl, *get, namespace=OPERATOR_NAMESPACE)
        await self.kill(json.loads(found)["items"], namespace=OPERATOR_NAMESPACE)

    async def redis_primary(self) -> Object:
        """The Redis pod that has the board's shard."""
        slot = await self.truth.redis("CLUSTER", "KEYSLOT", f"{{board:{BOARD}}}:meta")
        address = owner(await self.truth.redis_text("CLUSTER", "NODES"), slot)
        services = await asyncio.to_thread(self.instance.objects, "services", "app.kubernetes.io/component=redis")
        name = next(each["metadata"]["name"] for each in services if each["spec"].get("clusterIP") == address)
        return next(pod for pod in await self.pods("redis") if pod["metadata"]["name"] == name)

    async def flush_redis(self) -> None:
        """Wipe every Redis primary, all at once."""
        script = (
            "REDISCLI_AUTH=$(cat /etc/podium/secret/password); export REDISCLI_AUTH; "
            'test "$(redis-cli role | head -n 1)" != master || redis-cli flushall'
        )
        names = [pod["metadata"]["name"] for pod in await self.pods("redis")]
        self._strike()
        await asyncio.gather(
            *(asyncio.to_thread(self.instance.kubectl, "exec", name, "--", "sh", "-c", script) for name in names)
        )


def owner(nodes: str, slot: int) -> str:
    """The address of the primary that has a slot, from the answer of CLUSTER NODES."""
    for line in nodes.splitlines():
        fields = line.split()
        if "master" not in fields[2] or "fail" in fields[2].split(","):
            continue
        for span in fields[8:]:
            first, _, last = span.partition("-")
            if first.isdigit() and int(first) <= slot <= int(last or first):
                return fields[1].partition(":")[0]
    raise AssertionError(f"no primary has slot {slot}")


def _signal(pod: Object, number: signal.Signals) -> bool:
    """Send a signal to all processes of a pod's containers; false where none of them is on this machine."""
    found = False
    for process in _processes(pod):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
            found = True
    return found


def _processes(pod: Object) -> Iterator[int]:
    """The processes of a pod's containers, as far as they run on this machine: their cgroup names the container."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    containers = [each["containerID"].partition("://")[2] for each in statuses if each.get("containerID")]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            cgroup = (entry / "cgroup").read_text()
            if any(container in cgroup for container in containers):
                yield int(entry.name)


REFUSED = (subprocess.CalledProcessError, AssertionError, OSError)
"""What an attempt on the cluster raises where it does not answer."""
