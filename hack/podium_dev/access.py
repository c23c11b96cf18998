"""How a person on this machine reaches what runs in the cluster: URLs on 127.0.0.1, and the processes behind them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from podium_dev import host
from podium_dev.console import StageError
from podium_dev.instance import Instance
from podium_dev.kubectl import Kubectl
from podium_dev.proxy import Listener
from podium_dev.shell import wait_until

NAMESPACE, NAME = "podium-demo", "arcade"
"""The sample of `examples/arcade.yaml`."""
_START_SECONDS = 15


@dataclass(frozen=True)
class Page:
    """A Service that gets a port on 127.0.0.1. `proxy_port` is the one that expects PROXY protocol, if it has one."""

    name: str
    service: str
    namespace: str
    port: int
    proxy_port: int | None = None
    path: str = "/"


GATEWAY = Page("scoreboard", f"{NAME}-gateway", NAMESPACE, port=80, proxy_port=8081)
TRACES = Page("traces", "traces", "podium-observability", port=9411, path="/zipkin/")
PAGES = (GATEWAY, TRACES)


def url(instance: Instance, page: Page) -> str:
    """The page's URL, without its path."""
    return f"http://127.0.0.1:{instance.port(page.name)}"


def open_proxy(instance: Instance) -> None:
    """See to it that the local cluster's proxy runs with the present configuration.

    Raises StageError if it does not start.
    """
    listeners = [
        Listener(
            port=instance.port(page.name),
            service=f"{page.service}.{page.namespace}.svc.cluster.local",
            service_port=page.proxy_port or page.port,
            proxy_protocol=page.proxy_port is not None,
        )
        for page in PAGES
    ]
    configuration = json.dumps({"dns": instance.dns_address, "listeners": [asdict(listener) for listener in listeners]})
    file = instance.state / "proxy.json"
    if host.processes(instance, "proxy"):
        if file.exists() and file.read_text() == configuration:
            return
        host.kill(instance, "proxy")
    file.write_text(configuration)
    _wait_listening(instance, [_start(instance, [sys.executable, "-m", "podium_dev.proxy", str(file)])])


def open_forwards(instance: Instance, kubectl: Kubectl) -> None:
    """For a cluster elsewhere: one `kubectl port-forward` for each page; the gateway does not see clients' addresses.

    Raises StageError if one does not start.
    """
    host.kill(instance, "proxy")
    started = []
    for page in PAGES:
        ports = f"{instance.port(page.name)}:{page.port}"
        argv = kubectl.argv("--namespace", page.namespace, "port-forward", f"service/{page.service}", ports)
        started.append(_start(instance, argv))
    _wait_listening(instance, started)


def _start(instance: Instance, argv: list[str]) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        host.MARKER: f"{instance.id}/proxy",
    }
    log = instance.log("proxy")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            start_new_session=True,
        )


def _wait_listening(instance: Instance, started: Sequence[subprocess.Popen[bytes]]) -> None:
    def missing() -> str | None:
        # Not by their environment: for a moment after exec a process shows none.
        if any(process.poll() is not None for process in started):
            raise StageError("the proxy ended", instance.log("proxy"))
        for page in PAGES:
            try:
                socket.create_connection(("127.0.0.1", instance.port(page.name)), timeout=1).close()
            except OSError:
                return f"port {instance.port(page.name)} ({page.name})"
        return None

    wait_until(missing, timeout=_START_SECONDS, log=instance.log("proxy"), every=0.1)
