"""Container images: built from `images/NAME/Dockerfile` only if their content changed, and tagged by that content.

Buildah's storage, the finished layers (an OCI image layout) and one small description per image lie in the cache,
shared by all checkouts. `containerd_import` brings images from there into a node.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from podium_dev import cache, containerd_import, toolchain
from podium_dev.buildah import Buildah
from podium_dev.console import StageError
from podium_dev.shell import run

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "localhost/podium/"
"""References need a registry part, or containerd takes them for images of Docker Hub."""

KEPT_PER_NAME = 4
"""Finished images of each name that stay in the cache: several checkouts, and going back one change, cost nothing."""

_PARALLEL_BUILDS = 2
_ATTEMPTS = 5
_BASE_RECIPE = (
    "mmdebstrap --variant=minbase --include=usr-is-merged --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    " --dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/doc/*"
    " --dpkgopt=path-exclude=/usr/share/locale/*"
    ' --aptopt=Acquire::Languages{"none"} bookworm'
)


@dataclass(frozen=True)
class Image:
    """One folder of `images/`.

    `sources` are the paths of the repository that the image copies; with any, the build context is the repository.
    `program` is the tool of the toolchain that the image carries; with one, the build context holds just that file.
    """

    name: str
    sources: tuple[str, ...] = ()
    program: str | None = None

    @property
    def folder(self) -> Path:
        """Where the Dockerfile is."""
        return REPOSITORY / "images" / self.name

    def inputs(self) -> Iterable[Path]:
        """Every file whose change makes another image, in a fixed order."""
        yield from _files(self.folder)
        for source in self.sources:
            yield from _files(REPOSITORY / source)
        if self.program is not None:
            yield toolchain.ensure(self.program)


IMAGES: tuple[Image, ...] = (
    Image("podium", sources=("requirements.lock", "services", "operator")),
    Image("postgres"),
    Image("zipkin"),
    Image("redis"),
    Image("nats", program="nats-server"),
    Image("envoy", program="envoy"),
    Image("ratelimit", program="ratelimit"),
    Image("otelcol", program="otelcol"),
)
"""All images; the slow ones first, so that they overlap."""


def references(names: Iterable[str] | None = None) -> dict[str, str]:
    """The reference of each image (name → `localhost/podium/NAME:TAG`) as its content is now, built or not."""
    return {image.name: _reference(image) for image in _selected(names)}


def build_all(names: Iterable[str] | None = None, note: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Build the images whose content changed, all or the named ones, and return name → reference.

    `note` is told what is being built. Raises StageError with the log of the build that failed.
    """
    names = None if names is None else tuple(names)
    refs = references(names)
    if all(_description(ref).is_file() for ref in refs.values()):
        return refs
    with cache.locked(_root() / ".lock"):
        missing = [image for image in _selected(names) if not _description(refs[image.name]).is_file()]
        if not missing:
            return refs
        builder = Buildah(_root())
        builder.clear_debris()
        base = _build_base(builder, note)
        with ThreadPoolExecutor(_PARALLEL_BUILDS) as pool:
            jobs = {image.name: pool.submit(_build, builder, image, base, note) for image in missing}
        refs |= {name: job.result() for name, job in jobs.items()}
        shutil.rmtree(_root() / "contexts", ignore_errors=True)
        _forget_old(builder)
    return refs


def import_into(socket: Path, refs: Iterable[str]) -> list[str]:
    """Bring images into the containerd that listens on `socket`; those it has are skipped. Returns the imported ones.

    Raises StageError if one was not built or containerd refuses it.
    """
    wanted = list(refs)
    for ref in wanted:
        if not _description(ref).is_file():
            raise StageError(f"the image {ref} has not been built")
    return containerd_import.import_missing(
        socket, _root() / "oci", {ref: json.loads(_description(ref).read_text()) for ref in wanted}
    )


def docker_build(ref: str, image: Image, base: str = "debian:bookworm-slim") -> list[str]:
    """The command that builds the same image with a Docker engine (BuildKit), where there is one."""
    command = [
        "docker",
        "build",
        "--file",
        str(image.folder / "Dockerfile"),
        "--build-arg",
        f"BASE={base}",
        "--tag",
        ref,
    ]
    return [*command, str(_context(image))]


def _root() -> Path:
    return cache.root() / "images"


def _selected(names: Iterable[str] | None) -> list[Image]:
    if names is None:
        return list(IMAGES)
    known = {image.name: image for image in IMAGES}
    return [known[name] for name in names]


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        yield path
        return
    for directory, folders, files in os.walk(path):
        folders[:] = sorted(folder for folder in folders if folder != "__pycache__")
        yield from (Path(directory) / file for file in sorted(files) if not file.endswith(".pyc"))


def _base_tag() -> str:
    recipe = (REPOSITORY / "images" / "base" / "Dockerfile").read_bytes()
    return hashlib.sha256(_BASE_RECIPE.encode() + recipe).hexdigest()[:12]


def _reference(image: Image) -> str:
    digest = hashlib.sha256(_base_tag().encode())
    for file in image.inputs():
        name = file.relative_to(REPOSITORY) if file.is_relative_to(REPOSITORY) else file.name
        executable = bool(file.stat().st_mode & 0o100)
        with file.open("rb") as content:
            digest.update(f"{name}\0{executable}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return f"{PREFIX}{image.name}:{digest.hexdigest()[:12]}"


def _description(ref: str) -> Path:
    """The file that says an image is finished: its OCI descriptor."""
    name, tag = ref.removeprefix(PREFIX).split(":")
    return _root() / "built" / f"{name}@{tag}.json"


def _build_base(builder: Buildah, note: Callable[[str], None]) -> str:
    ref = f"{PREFIX}base:{_base_tag()}"
    if builder.has(ref):
        return ref
    note("base: a Debian root file system")
    context = _root() / "base-context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    log = cache.root() / "logs" / "image-base.log"
    run([*_BASE_RECIPE.split(" "), context / "rootfs.tar"], log=log)
    builder.build(ref, REPOSITORY / "images" / "base" / "Dockerfile", context, log=log)
    shutil.rmtree(context)
    return ref


def _context(image: Image) -> Path:
    if image.sources:
        return REPOSITORY
    if image.program is None:
        return image.folder
    context = _root() / "contexts" / image.name
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    program = context / image.program
    shutil.copyfile(toolchain.ensure(image.program), program)
    program.chmod(0o755)
    return context


def _build(builder: Buildah, image: Image, base: str, note: Callable[[str], None]) -> str:
    """Build and export one image and return its reference. Sources edited meanwhile are built again."""
    log = cache.root() / "logs" / f"image-{image.name}.log"
    for _ in range(_ATTEMPTS):
        ref = _reference(image)
        note(f"{image.name}: building")
        builder.build(ref, image.folder / "Dockerfile", _context(image), base=base, log=log)
        if ref == _reference(image):
            break
    else:
        raise StageError(f"the sources of the image {image.name} kept changing while it was built", log)
    descriptor = builder.export(ref, log=log)
    description = _description(ref)
    description.parent.mkdir(parents=True, exist_ok=True)
    temporary = description.with_suffix(f".tmp-{os.getpid()}")
    temporary.write_text(json.dumps(descriptor))
    temporary.rename(description)
    note(f"{image.name}: done")
    return ref


def _forget_old(builder: Buildah) -> None:
    """Drop all but the newest finished images of each name, and the layers that no image uses any more."""
    by_name: dict[str, list[Path]] = {}
    for description in sorted((_root() / "built").glob("*.json"), key=lambda path: -path.stat().st_mtime):
        by_name.setdefault(description.stem.split("@")[0], []).append(description)
    old = [path for paths in by_name.values() for path in paths[KEPT_PER_NAME:]]
    if not old:
        return
    for path in old:
        path.unlink()
    kept = [json.loads(path.read_text()) for paths in by_name.values() for path in paths[:KEPT_PER_NAME]]
    builder.forget([PREFIX + path.stem.replace("@", ":") for path in old])
    containerd_import.drop_unused_blobs(_root() / "oci", kept)
