"""Images: their references follow their content, and an import carries only what is missing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from podium_dev import containerd_import, images


def _blob(layout: Path, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / digest).write_bytes(content)
    return f"sha256:{digest}"


def _image(layout: Path, *layers: bytes) -> containerd_import.Descriptor:
    """An image of the given layers, put into the layout."""
    manifest = {
        "config": {"digest": _blob(layout, b"config of " + b"+".join(layers))},
        "layers": [{"digest": _blob(layout, layer)} for layer in layers],
    }
    content = json.dumps(manifest).encode()
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": _blob(layout, content),
        "size": len(content),
    }


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one image that copies `code/`."""
    for file in ("images/base/Dockerfile", "images/demo/Dockerfile", "code/main.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("one")
    monkeypatch.setattr(images, "REPOSITORY", tmp_path)
    monkeypatch.setattr(images, "IMAGES", (images.Image("demo", sources=("code",)),))
    return tmp_path


def test_reference_is_stable(checkout: Path) -> None:
    """The same content has the same reference, whatever byte code lies about."""
    before = images.references()
    (checkout / "code" / "__pycache__").mkdir()
    (checkout / "code" / "__pycache__" / "main.pyc").write_bytes(b"\0")
    (checkout / "code" / "main.py").touch()
    assert images.references() == before
    assert before["demo"].startswith("localhost/podium/demo:")


@pytest.mark.parametrize("changed", ["images/base/Dockerfile", "images/demo/Dockerfile", "code/main.py"])
def test_reference_follows_content(checkout: Path, changed: str) -> None:
    """A change of the base, the Dockerfile or a copied file makes another reference."""
    before = images.references()
    (checkout / changed).write_text("two")
    assert images.references() != before


def test_reference_follows_file_names(checkout: Path) -> None:
    """A renamed file makes another reference."""
    before = images.references()
    (checkout / "code" / "main.py").rename(checkout / "code" / "other.py")
    assert images.references() != before


def test_every_image_has_a_dockerfile() -> None:
    """Each image of the catalogue has its folder."""
    assert [image.name for image in images.IMAGES if not (image.folder / "Dockerfile").is_file()] == []


def test_archive_leaves_out_what_the_receiver_holds(tmp_path: Path) -> None:
    """Of an image, only the blobs that containerd lacks travel, each once; the index names every image."""
    first, second = _image(tmp_path, b"base", b"old code"), _image(tmp_path, b"base", b"new code")
    held = set(json.loads((tmp_path / "blobs/sha256" / first["digest"][7:]).read_text())["layers"][0].values())
    stream = io.BytesIO()
    containerd_import.write_archive(stream, tmp_path, {"a:1": first, "a:2": second}, held)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json") or io.BytesIO())
    base = f"blobs/sha256/{hashlib.sha256(b'base').hexdigest()}"
    new = f"blobs/sha256/{hashlib.sha256(b'new code').hexdigest()}"
    assert base not in names
    assert names.count(new) == 1
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == ["a:1", "a:2"]


def test_unused_blobs_are_dropped(tmp_path: Path) -> None:
    """What only forgotten images used is deleted; shared layers stay."""
    old, new = _image(tmp_path, b"base", b"old code"), _image(tmp_path, b"base", b"new code")
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [dict(old), dict(new)]}))
    containerd_import.drop_unused_blobs(tmp_path, [new])
    left = {blob.read_bytes() for blob in (tmp_path / "blobs/sha256").iterdir()}
    assert {b"base", b"new code"} <= left
    assert b"old code" not in left
    assert json.loads((tmp_path / "index.json").read_text())["manifests"] == [new]
