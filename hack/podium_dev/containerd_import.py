"""Bringing images from an OCI image layout into containerd: only the blobs that it lacks travel."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from podium_dev.console import StageError
from podium_dev.shell import run

Descriptor = Mapping[str, Any]
"""An OCI content descriptor: `mediaType`, `digest`, `size` in bytes."""

NAMESPACE = "k8s.io"
"""The containerd namespace that the kubelet uses."""


def import_missing(socket: Path, layout: Path, images: Mapping[str, Descriptor]) -> list[str]:
    """Import those of `images` (reference → manifest) that containerd does not have, and return their references.

    Raises StageError if containerd refuses them.
    """
    client = ["ctr", "--address", str(socket), "--namespace", NAMESPACE]
    present = set(run([*client, "images", "list", "--quiet"]).split())
    missing = {ref: descriptor for ref, descriptor in images.items() if ref not in present}
    if not missing:
        return []
    held = set(run([*client, "content", "list", "--quiet"]).split())
    with subprocess.Popen(
        [*client, "images", "import", "--digests=false", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as importer:
        assert importer.stdin is not None
        assert importer.stdout is not None
        try:
            write_archive(importer.stdin, layout, missing, held)
            importer.stdin.close()
        except BrokenPipeError:
            pass  # ctr gave up early: its output says why
        output = importer.stdout.read().decode(errors="replace")
    if importer.returncode != 0:
        raise StageError(f"containerd refused the images {', '.join(missing)}: {output.strip()[-400:]}")
    return list(missing)


def drop_unused_blobs(layout: Path, kept: Iterable[Descriptor]) -> None:
    """Delete from the layout what none of the `kept` manifests refers to."""
    kept = list(kept)
    used = {blob for manifest in kept for blob in _blobs(layout, manifest)}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if f"sha256:{blob.name}" not in used:
            blob.unlink()
    index_path = layout / "index.json"
    index = json.loads(index_path.read_text())
    index["manifests"] = [entry for entry in index["manifests"] if entry["digest"] in used]
    index_path.write_text(json.dumps(index))


def _blobs(layout: Path, manifest: Descriptor) -> list[str]:
    """The digests of a manifest, its configuration and its layers."""
    content = json.loads(_blob(layout, manifest["digest"]).read_text())
    return [manifest["digest"], content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def write_archive(stream: IO[bytes], layout: Path, images: Mapping[str, Descriptor], held: set[str]) -> None:
    """Write an OCI archive of `images` without the blobs `held` by the receiver."""
    index = {
        "schemaVersion": 2,
        "manifests": [
            {**descriptor, "annotations": {"io.containerd.image.name": ref}} for ref, descriptor in images.items()
        ],
    }
    wanted = dict.fromkeys(
        blob for manifest in images.values() for blob in _blobs(layout, manifest) if blob not in held
    )
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for digest in wanted:
            archive.add(_blob(layout, digest), f"blobs/sha256/{digest.removeprefix('sha256:')}")
        for name, document in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
            data = json.dumps(document).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
