"""A running Podium on a real cluster: where it is, and what kubectl says about it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
"""The repository's root."""

INFO_VARIABLE = "PODIUM_E2E_INFO"
"""Environment variable that names a file with the answer of ``make -s info`` of an instance to test."""

SETTLE_SECONDS = 240.0
"""How long a cluster may take to become as the resource says after a change; small machines are slow."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """One Scoreboard on one cluster, as ``make -s info`` describes it."""

    url: str
    ws_url: str
    client_id: str
    client_secret: str = field(repr=False)
    namespace: str
    name: str
    kubeconfig: str
    pages: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> "Instance":
        """Read the JSON object of ``make -s info``."""
        info = json.loads(text)
        return cls(
            info["url"],
            info["wsUrl"],
            info["clientId"],
            info["clientSecret"],
            info["namespace"],
            info["name"],
            info["kubeconfig"],
            info["pages"],
        )

    def kubectl(self, *arguments: str, namespace: str | None = None, given: str | None = None) -> str:
        """Run kubectl in the Scoreboard's namespace, or another, and return what it prints.

        Raises:
            subprocess.CalledProcessError: it failed; its message is in ``stderr``.
        """
        command = [*self._kubectl(namespace), *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=300).stdout

    def get(self, kind: str, name: str) -> Object:
        """One object. Raises ``subprocess.CalledProcessError`` if there is none."""
        found: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def objects(self, kinds: str, selector: str | None = None) -> list[Object]:
        """The objects of some kinds, with a label selector beside the Scoreboard's own label."""
        labels = f"app.kubernetes.io/instance={self.name}" + (f",{selector}" if selector else "")
        items: list[Object] = json.loads(self.kubectl("get", kinds, "-l", labels, "-o", "json"))["items"]
        return items

    def pods(self, component: str) -> list[Object]:
        """The pods of a component that are not being deleted."""
        pods = self.objects("pods", f"app.kubernetes.io/component={component}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def scoreboard(self) -> Object:
        """The Scoreboard resource."""
        return self.get("scoreboards.podium.dev", self.name)

    def is_settled(self) -> bool:
        """Whether the resource is Ready for its present generation and every pod that should be is ready."""
        return is_ready(self.scoreboard()) and all(
            _pods_ready(each) for each in self.objects("deployments,statefulsets")
        )

    def wait_settled(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until ``is_settled``; raises TimeoutError with the resource's conditions."""
        try:
            until(self.is_settled, seconds)
        except TimeoutError:
            conditions = self.scoreboard()["status"]["conditions"]
            raise TimeoutError(f"not settled after {seconds} s: {json.dumps(conditions, indent=1)}") from None

    def gateway_address(self) -> str:
        """``host:port`` of the gateway's Service where this machine has a way to it, else of the published address.

        The published address of a local cluster is a small proxy for development, which load would measure as well.
        """
        service = self.get("service", f"{self.name}-gateway")["spec"]
        port = next(each["port"] for each in service["ports"] if each["name"] == "http")
        try:
            with socket.create_connection((service["clusterIP"], port), timeout=2):
                return f"{service['clusterIP']}:{port}"
        except OSError:
            return urlsplit(self.ws_url).netloc

    @contextlib.contextmanager
    def port_forward(self, target: str, port: int = 8080) -> Iterator[int]:
        """Reach a pod or Service (``pod/NAME``) directly: yields a port of 127.0.0.1."""
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [*self._kubectl(None), "port-forward", "--address=127.0.0.1", target, f":{port}"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            try:
                assert process.stdout is not None
                started = re.search(r"127\.0\.0\.1:(\d+) ->", process.stdout.readline())
                errors.seek(0)
                assert started, f"port-forward to {target}: {errors.read()}"
                yield int(started[1])
            finally:
                process.terminate()
                process.wait()

    def _kubectl(self, namespace: str | None) -> list[str]:
        return [kubectl_path(), "--kubeconfig", self.kubeconfig, "--namespace", namespace or self.namespace]


def kubectl_path() -> str:
    """The kubectl that is built with the local cluster."""
    from podium_dev import toolchain

    return str(toolchain.ensure("kubectl"))


def is_ready(scoreboard: Object) -> bool:
    """Whether a Scoreboard says ``Ready=True`` for the generation it has now."""
    generation = scoreboard["metadata"]["generation"]
    status = scoreboard.get("status", {})
    ready = [each for each in status.get("conditions", []) if each["type"] == "Ready"]
    return (
        status.get("observedGeneration") == generation
        and len(ready) == 1
        and ready[0]["status"] == "True"
        and ready[0]["observedGeneration"] == generation
    )


def until(condition: Callable[[], bool], seconds: float, *, every: float = 0.5) -> None:
    """Wait for a condition that can only be asked. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(every)


@contextlib.contextmanager
def running_instance() -> Iterator[Instance]:
    """The instance named by ``PODIUM_E2E_INFO``, or one of the tests' own that ends with the block."""
    given = os.environ.get(INFO_VARIABLE)
    if given:
        yield Instance.parse(Path(given).read_text())
        return
    env = {**os.environ, "PODIUM_INSTANCE": "test", "CLUSTER": os.environ.get("CLUSTER", "local")}
    try:
        subprocess.run(["make", "up"], cwd=ROOT, env=env, check=True, stdin=subprocess.DEVNULL)
        info = subprocess.run(["make", "-s", "info"], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
        yield Instance.parse(info.stdout)
    finally:
        subprocess.run(["make", "down"], cwd=ROOT, env=env, check=False, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def found_instance() -> Iterator[Instance]:
    """The instance that was named, or that of ``make up``, or one of its own that ends with the block."""
    if not os.environ.get(INFO_VARIABLE):
        info = subprocess.run(["make", "-s", "info"], cwd=ROOT, capture_output=True, text=True, check=False)
        if info.returncode == 0:
            yield Instance.parse(info.stdout)
            return
    with running_instance() as instance:
        yield instance


def _pods_ready(workload: Object) -> bool:
    status = workload.get("status", {})
    wanted = workload["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration") == workload["metadata"]["generation"]
        and status.get("readyReplicas", 0) == wanted
        and status.get("updatedReplicas", wanted) == wanted
        and status.get("replicas", 0) == wanted
    )
