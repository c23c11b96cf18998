"""Small container images made of static programs, written as OCI archives without any builder.

Format: OCI image specification 1.0, "Image Layout"; containerd reads the name from the annotation in `index.json`.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_NAME_ANNOTATION = "io.containerd.image.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def reference(name: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> str:
    """`localhost/podium/NAME:TAG` where the tag stands for the content."""
    digest = hashlib.sha256(json.dumps(list(entrypoint)).encode())
    for target, source in sorted(files.items()):
        digest.update(f"\0{target}\0".encode())
        with source.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"localhost/podium/{name}:{digest.hexdigest()[:12]}"


def write(
    archive: Path, image: str, files: Mapping[str, Path], entrypoint: Sequence[str], user: str = "65532:65532"
) -> None:
    """Write an image of one layer with `files` (path in the image → file here, all executable); links are resolved."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for directory in (
            "tmp",
            *sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}),
        ):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        for name, source in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = source.stat().st_size, 0o755
            with source.open("rb") as content:
                tar.addfile(entry, content)
    blobs: dict[str, bytes] = {}
    layer_descriptor = _blob(blobs, layer.getvalue(), "application/vnd.oci.image.layer.v1.tar")
    configuration = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"User": user, "Entrypoint": list(entrypoint), "Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_descriptor["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, _json(configuration), "application/vnd.oci.image.config.v1+json"),
        "layers": [layer_descriptor],
    }
    entry_point = _blob(blobs, _json(manifest), "application/vnd.oci.image.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [{**entry_point, "annotations": {_NAME_ANNOTATION: image}}]}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _json(index))
        for name, blob in blobs.items():
            _add(tar, name, blob)


def _blob(blobs: dict[str, bytes], content: bytes, media_type: str) -> dict[str, str | int]:
    digest = hashlib.sha256(content).hexdigest()
    blobs[f"blobs/sha256/{digest}"] = content
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
