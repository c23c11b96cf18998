"""Command line of the development tool; the Makefile is its usual caller."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from podium_dev import access, clusters, deploy, host, node, toolchain, versions
from podium_dev import images as container_images
from podium_dev import info as description
from podium_dev import instance as instances
from podium_dev.clusters import Cluster
from podium_dev.console import StageError, report_failure, say, stage
from podium_dev.instance import Instance

_MIB = 1 << 20


def main() -> int:
    """Run one command; 0 if it succeeded, 1 if a stage failed, 130 after Ctrl-C."""
    commands: dict[str, tuple[Callable[[list[str]], None], str]] = {
        "up": (up, "cluster, images, operator and sample, to Ready"),
        "down": (down, "remove everything `up` made"),
        "info": (info, "one JSON object that says how to use the running sample"),
        "images": (images, "build the images; into the cluster too if it runs"),
        "cluster-up": (cluster_up, "bring up the local cluster, empty"),
        "tools": (tools, "install and compile everything that images and tests need"),
        "packages": (packages, "install the Debian packages that building needs"),
        "kubectl": (kubectl, "kubectl against the instance's cluster"),
        "memory": (memory, "resident memory of the local cluster"),
    }
    parser = argparse.ArgumentParser(prog="podium_dev", description=__doc__)
    parser.add_argument(
        "command", choices=commands, help="; ".join(f"{n}: {text}" for n, (_, text) in commands.items())
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        commands[options.command][0](options.arguments)
    except StageError as error:
        report_failure(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make up` goes on from here, `make down` removes what there is")
        return 130
    return 0


def up(_: list[str]) -> None:
    """The whole way to a Ready sample."""
    instance = instances.load_or_create()
    with instances.exclusively(instance):
        cluster = clusters.up(instance)
        with stage("Images") as shown:
            refs = clusters.provide_images(instance, cluster, shown)
        if cluster.kind == "local":
            node.wait_addons(instance)
        deploy.install(instance, cluster, refs)
        with stage("Open the way from 127.0.0.1"):
            _open(instance, cluster)
    toolchain.forget_go_caches()
    _show_tour(description.describe(instance, cluster))


def down(_: list[str]) -> None:
    """Remove the instance."""
    instance = instances.load()
    if instance is None:
        say("nothing of this checkout is up")
        return
    with instances.exclusively(instance), stage("Remove the cluster and all it brought"):
        cluster = clusters.remembered(instance)
        foreign = cluster is not None and cluster.kind == "current"
        clusters.down(instance, deploy.uninstall_commands(cluster) if foreign and cluster else {})


def info(_: list[str]) -> None:
    """Print the description; a proxy that has died is started again."""
    instance, cluster = _existing()
    answer = description.describe(instance, cluster)
    if not host.processes(instance, "proxy"):
        _open(instance, cluster)
    print(json.dumps(answer, indent=2))


def images(names: list[str]) -> None:
    """Build all images, or the named ones, and import them into a local cluster that runs."""
    toolchain.ensure_debian_packages()
    with stage("Images") as shown:
        refs = container_images.build_all(names or None, note=shown.note)
        instance = instances.load()
        if instance is not None and node.is_running(instance):
            container_images.import_into(instance.containerd_socket, refs.values())
    print(json.dumps(refs, indent=2))


def cluster_up(_: list[str]) -> None:
    """An empty local cluster with DNS, metrics and volumes; prints its kubeconfig's path."""
    os.environ["CLUSTER"] = "local"
    instance = instances.load_or_create()
    with instances.exclusively(instance):
        clusters.up(instance)
        node.wait_addons(instance)
    print(instance.kubeconfig)


def tools(_: list[str]) -> None:
    """Everything that images and tests need."""
    toolchain.ensure_debian_packages()
    toolchain.ensure_all(toolchain.all_tools())
    toolchain.forget_go_caches()


def packages(_: list[str]) -> None:
    """The Debian packages that building needs, such as Python's venv."""
    if sys.prefix == sys.base_prefix and importlib.util.find_spec("ensurepip") is None:
        toolchain.ensure_debian_packages(versions.BUILD_PACKAGES)


def kubectl(arguments: list[str]) -> None:
    """Become kubectl."""
    _, cluster = _existing()
    argv = cluster.kubectl.argv(*arguments)
    os.execv(argv[0], argv)  # noqa: S606


def memory(_: list[str]) -> None:
    """Resident memory in MiB (PSS: shared pages split among their users)."""
    instance = _existing()[0]
    print(f"{host.resident_bytes(instance) / _MIB:.0f} MiB")


def _existing() -> tuple[Instance, Cluster]:
    instance = instances.load()
    cluster = clusters.remembered(instance) if instance is not None else None
    if instance is None or cluster is None:
        raise StageError("nothing of this checkout is up; `make up` brings it up")
    return instance, cluster


def _open(instance: Instance, cluster: Cluster) -> None:
    if cluster.kind == "local":
        access.open_proxy(instance)
    else:
        access.open_forwards(instance, cluster.kubectl)


def _show_tour(about: description.Info) -> None:
    kubeconfig = f" --kubeconfig {about['kubeconfig']}" if about["kubeconfig"] else ""
    print(
        f"""
Podium is up.
  scoreboard   {about["url"]}/          (a live page: open it in a browser)
  traces       {about["pages"]["traces"]}
  WebSocket    {about["wsUrl"]}
  kubectl      {toolchain.ensure("kubectl")}{kubeconfig} -n {about["namespace"]} get scoreboard

Try it:
  curl -s {about["url"]}/api/v1/scoreboard
  make demo            players who earn points, so that the page moves
  make -s info         all of this as JSON, with a client's credentials
  make down            remove everything""",
        file=sys.stderr,
    )


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
