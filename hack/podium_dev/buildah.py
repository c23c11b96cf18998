"""A thin driver of buildah: one storage of our own, builds in a chroot, images exported to an OCI image layout."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from threading import Lock
from typing import Any

from podium_dev.console import StageError
from podium_dev.shell import run, succeeds

_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "timeout", "proxy")
"""Options of the machine's pip that also hold inside a build; options that name local paths do not."""


class Buildah:
    """Builds images below one directory. Builds may run in parallel, exports take turns (they share an index)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._layout = root / "oci"
        self._exporting = Lock()
        self._command = ["buildah", "--root", str(root / "storage"), "--runroot", str(root / "run")]
        self._command += ["--storage-driver", "overlay"]

    def has(self, ref: str) -> bool:
        """Whether the storage holds the image."""
        return succeeds([*self._command, "inspect", "--type", "image", ref])

    def build(self, ref: str, dockerfile: Path, context: Path, *, log: Path, base: str | None = None) -> None:
        """Build `dockerfile` and tag it `ref`. Raises StageError with `log` if a step fails."""
        command = [
            *self._command,
            "build",
            "--isolation",
            "chroot",
            "--layers",
            "--tag",
            ref,
            "--file",
            str(dockerfile),
        ]
        ignore = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
        if ignore.is_file():
            command += ["--ignorefile", str(ignore)]
        if base is not None:
            command += ["--build-arg", f"BASE={base}"]
        if _CA_BUNDLE.is_file():
            command += ["--secret", f"id=ca.crt,src={_CA_BUNDLE}"]
        command += ["--secret", f"id=pip.conf,src={self._pip_configuration()}"]
        run(["nice", "-n", "5", *command, str(context)], log=log)

    def export(self, ref: str, *, log: Path) -> dict[str, Any]:
        """Put the image into the layout `oci/` and return its descriptor (media type, digest, size in bytes)."""
        index = self._layout / "index.json"
        with self._exporting:
            if index.is_file() and not _is_json(index):
                index.unlink()
            # zstd: a third of the time of gzip for the same size; containerd has read it since 1.5.
            target = f"oci:{self._layout}:{ref}"
            run(
                [
                    *self._command,
                    "push",
                    "--format",
                    "oci",
                    "--compression-format",
                    "zstd",
                    "--compression-level",
                    "3",
                    ref,
                    target,
                ],
                log=log,
            )
            for descriptor in json.loads(index.read_text())["manifests"]:
                if descriptor.get("annotations", {}).get("org.opencontainers.image.ref.name") == ref:
                    return {key: descriptor[key] for key in ("mediaType", "digest", "size")}
        raise StageError(f"the exported image {ref} is not in {index}", log)

    def forget(self, refs: list[str]) -> None:
        """Remove images, and from the storage the layers that no image uses any more."""
        present = [ref for ref in refs if self.has(ref)]
        if present:
            run([*self._command, "rmi", *present])
        run([*self._command, "rmi", "--prune"])

    def clear_debris(self) -> None:
        """Remove what a killed build left: working containers and their mounts."""
        storage = str(self._root / "storage") + "/"
        mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(storage)]):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        if (self._root / "storage").is_dir():
            run([*self._command, "rm", "--all"])

    def _pip_configuration(self) -> Path:
        """The options with which pip inside a build reaches the index that this machine uses; readable by root only."""
        path = self._root / "pip.conf"
        lines = ["[global]", "disable-pip-version-check = true"]
        if _CA_BUNDLE.is_file():
            lines.append("cert = /run/ca.crt")
        lines += [f"{option} = {value}" for option, value in _pip_options().items()]
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")
        return path


def _pip_options() -> dict[str, str]:
    """How the pip of this machine is configured, its environment variables first; empty where it has no pip."""
    done = subprocess.run(["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {
        option: str(ast.literal_eval(lines[key]))
        for option in _PIP_OPTIONS
        for key in (f"global.{option}", f"install.{option}", f":env:.{option}")
        if key in lines
    }


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True
