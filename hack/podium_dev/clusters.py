"""Which kind of cluster `make up` uses, and how images get into it: local (ours), kind, or the current kube context."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from podium_dev import images, node, toolchain, versions
from podium_dev.console import Stage, StageError, say, stage
from podium_dev.instance import Instance
from podium_dev.kubectl import Kubectl
from podium_dev.shell import run, succeeds

KINDS = ("local", "kind", "current")
_LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost", "kubernetes.docker.internal")


@dataclass(frozen=True)
class Cluster:
    """The cluster of an instance. `kubeconfig` and `context` are what kubectl is told; None means its own choice."""

    kind: str
    kubeconfig: str | None = None
    context: str | None = None

    @property
    def kubectl(self) -> Kubectl:
        """kubectl for this cluster."""
        return Kubectl(Path(self.kubeconfig) if self.kubeconfig else None, self.context)

    @property
    def helm_connection(self) -> list[str]:
        """The same connection as flags of helm."""
        kubeconfig = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return kubeconfig + ([f"--kube-context={self.context}"] if self.context else [])


def choose() -> str:
    """The kind of cluster: `CLUSTER` if set, else kind where a Docker engine answers, else local.

    Raises StageError for an unknown value.
    """
    wanted = os.environ.get("CLUSTER", "")
    if wanted in KINDS:
        return wanted
    if wanted:
        raise StageError(f"CLUSTER={wanted} is unknown; use one of {', '.join(KINDS)}")
    return "kind" if succeeds(["docker", "version"]) else "local"


def up(instance: Instance) -> Cluster:
    """Bring the cluster up, or connect to it; what was chosen is remembered for `down` and `info`.

    Raises StageError if that fails, or if the user does not want it touched.
    """
    previous = remembered(instance)
    kind = choose() if previous is None or os.environ.get("CLUSTER") else previous.kind
    if previous is not None and previous.kind != kind:
        raise StageError(f"this checkout has a cluster of kind {previous.kind}; `make down` removes it")
    if kind == "local":
        prepare_local()
        _remember(instance, Cluster("local", str(instance.kubeconfig)))
        node.up(instance)
    else:
        toolchain.ensure_all(toolchain.COMMON_TOOLS)
        _remember(instance, _kind_up(instance) if kind == "kind" else _current(instance))
    cluster = remembered(instance)
    assert cluster is not None
    return cluster


def prepare_local() -> None:
    """What the local cluster needs on this machine: root, packages, programs."""
    node.uid_zero()
    toolchain.ensure_debian_packages(versions.LOCAL_PACKAGES)
    toolchain.ensure_all((*toolchain.COMMON_TOOLS, *toolchain.CLUSTER_TOOLS))


def remembered(instance: Instance) -> Cluster | None:
    """The cluster that `up` chose, or None."""
    try:
        return Cluster(**json.loads((instance.state / "cluster.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def provide_images(instance: Instance, cluster: Cluster, stage: Stage) -> dict[str, str]:
    """Build the images whose content changed and bring them to the cluster; returns name → reference.

    Raises StageError if a build fails or the cluster cannot be given images.
    """
    if cluster.kind == "local":
        refs = images.build_all(note=stage.note)
        for ref in images.import_into(instance.containerd_socket, refs.values()):
            stage.note(f"imported {ref}")
        return refs
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    if cluster.kind == "current" and not registry:
        raise StageError("CLUSTER=current needs REGISTRY=host/path, a registry that the cluster can pull from")
    refs = {}
    for image in images.IMAGES:
        ref = images.references([image.name])[image.name]
        if registry:
            ref = f"{registry}/{ref.rsplit('/', 1)[1]}"
        refs[image.name] = ref
        if not succeeds(["docker", "image", "inspect", ref]):
            stage.note(f"{image.name}: building")
            run(images.docker_build(ref, image), log=instance.log(f"image-{image.name}"))
        if registry:
            run(["docker", "push", ref], log=instance.log(f"image-{image.name}"))
    if cluster.kind == "kind":
        kind = str(toolchain.ensure("kind"))
        run([kind, "load", "docker-image", "--name", instance.node_name, *refs.values()], log=instance.log("kind"))
    return refs


def is_local_server(server: str, context: str) -> bool:
    """Whether a kube context is of this machine: its API server's host, or a name that such tools give."""
    host = urllib.parse.urlsplit(server).hostname or ""
    named = context.startswith(("kind-", "k3d-")) or context in ("minikube", "docker-desktop", "rancher-desktop")
    return host in _LOCAL_HOSTS or named


def _kind_up(instance: Instance) -> Cluster:
    if shutil.which("docker") is None or not succeeds(["docker", "version"]):
        raise StageError("CLUSTER=kind needs a Docker engine that answers")
    toolchain.ensure_all(("kind",))
    kind = str(toolchain.ensure("kind"))
    if instance.node_name not in run([kind, "get", "clusters"]).split():
        with stage("Create the kind cluster"):
            arguments = ["--name", instance.node_name, "--kubeconfig", str(instance.kubeconfig), "--wait", "120s"]
            run([kind, "create", "cluster", *arguments], log=instance.log("kind"))
    return Cluster("kind", str(instance.kubeconfig))


def _current(instance: Instance) -> Cluster:
    kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not kubeconfig.is_file():
        raise StageError(f"CLUSTER=current: there is no kubeconfig {kubeconfig} (KUBECONFIG must name one file)")
    kubectl = Kubectl(kubeconfig)
    context = kubectl.run("config", "current-context").strip()
    known = remembered(instance)
    view = json.loads(kubectl.run("config", "view", "--minify", f"--context={context}", "--output=json"))
    server = view["clusters"][0]["cluster"]["server"]
    if (
        (known is None or known.context != context)
        and not is_local_server(server, context)
        and not _agreed(context, server)
    ):
        raise StageError(f"the context {context} was left untouched")
    if known is not None and known.context != context:
        raise StageError(f"this checkout is deployed to the context {known.context}; `make down` removes it")
    return Cluster("current", str(kubeconfig), context)


def _agreed(context: str, server: str) -> bool:
    """Ask a person; a script says CONFIRM=yes."""
    if os.environ.get("CONFIRM") == "yes":
        return True
    if not sys.stdin.isatty():
        say(f"{context} ({server}) is not a cluster of this machine; CONFIRM=yes allows it")
        return False
    return input(f"Install Podium into the context {context} ({server})? [y/N] ").strip().lower() in ("y", "yes")


def down(instance: Instance, uninstall: Mapping[str, list[str]]) -> None:
    """Remove what `up` made. In a cluster that is not ours, that is each command of `uninstall` (what → command).

    Raises StageError if something resists.
    """
    cluster = remembered(instance)
    if cluster is not None and cluster.kind == "kind":
        run([str(toolchain.ensure("kind")), "delete", "cluster", "--name", instance.node_name])
    elif cluster is not None and cluster.kind == "current":
        for what, command in uninstall.items():
            say(f"removing {what}")
            run(command, timeout=300)
    node.down(instance)


def _remember(instance: Instance, cluster: Cluster) -> None:
    instance.save()
    (instance.state / "cluster.json").write_text(json.dumps(asdict(cluster)))
