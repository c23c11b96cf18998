"""Files of npm packages, for tests. Nothing of a package runs."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from pathlib import Path

from podium_dev import cache
from podium_dev.console import StageError, say
from podium_dev.shell import run


def ensure_file(requirement: str, member: str) -> Path:
    """The path of one file of a package, fetched first if the cache does not hold it.

    `requirement` is `NAME==VERSION --hash=sha512:HEX`; `member` is the file's path inside the package.

    Raises StageError if the package cannot be had or is another one than its hash says.
    """
    package, _, wanted = requirement.partition(" --hash=sha512:")
    name, _, version = package.partition("==")

    def build(target: Path) -> None:
        say(f"fetching {name} {version} from npm")
        with tempfile.TemporaryDirectory() as scratch:
            run(["npm", "pack", "--silent", "--cache", f"{scratch}/cache", f"{name}@{version}"], cwd=Path(scratch))
            (archive,) = Path(scratch).glob("*.tgz")
            if hashlib.sha512(archive.read_bytes()).hexdigest() != wanted:
                raise StageError(f"{name} {version} from npm is not the one that is pinned")
            with tarfile.open(archive) as files:
                content = files.extractfile(f"package/{member}")
                assert content is not None
                (target / Path(member).name).write_bytes(content.read())

    key = f"{name.lstrip('@').replace('/', '-')}-{version}-{Path(member).stem}"
    return cache.entry(f"tools/{key}", build) / Path(member).name
