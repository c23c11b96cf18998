"""What the node needs beyond Kubernetes itself: pause image, cluster DNS, resource metrics, volumes, rights."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from podium_dev import cache, oci, pki, toolchain
from podium_dev.console import Stage
from podium_dev.instance import Instance
from podium_dev.kubectl import Kubectl
from podium_dev.shell import run, wait_until

_MANIFESTS = toolchain.REPOSITORY / "hack" / "cluster"
_AWAITED = (
    ("kube-system", "coredns"),
    ("local-path-storage", "local-path-provisioner"),
)
"""metrics-server is not among them: its first figures take 15 to 30 s, and nothing needs them to start."""
_READY_SECONDS = 120


@dataclass(frozen=True)
class StaticImage:
    """An image of static programs alone: path in the image → file on this machine."""

    name: str
    files: dict[str, Path]
    entrypoint: tuple[str, ...]

    @property
    def reference(self) -> str:
        """`localhost/podium/NAME:TAG`."""
        return oci.reference(self.name, self.files, self.entrypoint)

    def archive(self) -> Path:
        """The image as an OCI archive in the cache, written if missing."""
        name, tag = self.reference.rsplit("/", 1)[1].split(":")

        def build(target: Path) -> None:
            oci.write(target / "image.tar", self.reference, self.files, self.entrypoint)

        return cache.entry(f"addons/{name}-{tag}", build) / "image.tar"


def images() -> dict[str, StaticImage]:
    """The add-ons' images by name."""
    made = [
        StaticImage("pause", {"usr/bin/catatonit": Path("/usr/bin/catatonit")}, ("/usr/bin/catatonit", "-P")),
        StaticImage(
            "busybox",
            {f"bin/{applet}": Path("/bin/busybox") for applet in ("busybox", "sh", "mkdir", "rm")},
            ("/bin/sh",),
        ),
    ]
    for tool in ("coredns", "metrics-server", "local-path-provisioner"):
        made.append(StaticImage(tool, {f"usr/bin/{tool}": toolchain.ensure(tool)}, (f"/usr/bin/{tool}",)))
    return {image.name: image for image in made}


def import_images(instance: Instance) -> None:
    """Bring the add-ons' images into the node, those it lacks."""
    client = ["ctr", "--address", str(instance.containerd_socket), "--namespace", "k8s.io"]
    present = run([*client, "images", "list", "--quiet"]).split()
    for image in images().values():
        if image.reference not in present:
            run([*client, "images", "import", "--digests=false", str(image.archive())], timeout=120)


def apply(instance: Instance) -> None:
    """Apply the add-ons' manifests.

    Raises StageError if the API server refuses one.
    """
    values = {
        "DNS_ADDRESS": instance.dns_address,
        "VOLUMES": str(instance.state / "volumes"),
        **{f"IMAGE_{name.upper().replace('-', '_')}": image.reference for name, image in images().items()},
    }
    Kubectl(pki.kubeconfig(instance, "super-admin")).apply((_MANIFESTS / "rbac.yaml").read_text())
    kubectl = Kubectl(instance.kubeconfig)
    for name in ("coredns", "metrics-server", "local-path"):
        kubectl.apply(string.Template((_MANIFESTS / f"{name}.yaml").read_text()).substitute(values))


def wait_ready(instance: Instance, stage: Stage) -> None:
    """Wait until DNS and volumes are available.

    Raises StageError after two minutes.
    """
    kubectl = Kubectl(instance.kubeconfig)

    def missing() -> str | None:
        for namespace, name in _AWAITED:
            state = kubectl.get("deployment", name, namespace)
            status = state.get("status", {}) if state else {}
            if not status.get("availableReplicas"):
                return f"deployment {name}"
        return None

    wait_until(missing, timeout=_READY_SECONDS, stage=stage, log=instance.log("kubelet"), every=0.5)
