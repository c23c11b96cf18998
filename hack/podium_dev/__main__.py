"""Command line of the development tool; the Makefile is its usual caller."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from podium_dev import instance as instances
from podium_dev import node, toolchain
from podium_dev.console import StageError, report_failure, say, stage
from podium_dev.kubectl import Kubectl


def main() -> int:
    """Run one command; 0 if it succeeded, 1 if a stage failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="podium_dev", description=__doc__)
    commands: dict[str, tuple[Callable[[list[str]], None], str]] = {
        "cluster-up": (cluster_up, "bring up the local cluster, empty"),
        "cluster-down": (cluster_down, "remove the local cluster"),
        "tools": (tools, "install and compile everything that images and tests need"),
        "kubectl": (kubectl, "kubectl against the local cluster"),
    }
    parser.add_argument("command", choices=commands, help="; ".join(f"{n}: {text}" for n, (_, text) in commands.items()))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        commands[options.command][0](options.arguments)
    except StageError as error:
        report_failure(error)
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make up` goes on from here, `make down` removes what there is")
        return 130
    return 0


def cluster_up(_: list[str]) -> None:
    """An empty cluster with DNS, metrics and volumes."""
    node.uid_zero()
    toolchain.ensure_debian_packages()
    toolchain.ensure_all(toolchain.CLUSTER_TOOLS)
    instance = instances.load_or_create()
    node.up(instance)
    print(instance.kubeconfig)


def cluster_down(_: list[str]) -> None:
    """Remove the cluster."""
    node.uid_zero()
    instance = instances.load()
    if instance is None:
        say("no local cluster of this checkout")
        return
    with stage("Remove the local cluster"):
        node.down(instance)


def tools(_: list[str]) -> None:
    """Everything that images and tests need."""
    toolchain.ensure_debian_packages()
    toolchain.ensure_all(toolchain.all_tools())


def kubectl(arguments: list[str]) -> None:
    """Become kubectl."""
    instance = instances.load()
    if instance is None:
        raise StageError("no local cluster of this checkout; `make cluster-up` makes one")
    argv = Kubectl(instance.kubeconfig).argv(*arguments)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    sys.exit(main())
