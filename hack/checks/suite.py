"""Everything that ``make test`` runs, in stages with their time; a stage that fails does not stop the later ones.

Options: ``--only STAGE…`` runs some stages, ``--keep`` leaves the test cluster up. What follows ``--`` goes to pytest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "hack"))

from podium_dev import toolchain  # noqa: E402
from podium_dev.console import StageError, report_failure, say, stage  # noqa: E402

INFO_VARIABLE = "PODIUM_E2E_INFO"
"""Names the file with the test instance's description; given from outside, that instance is used and kept."""

TEST_PACKAGES = {
    "redis-server": "/usr/bin/redis-server",
    "postgresql": "/usr/lib/postgresql",
    "varnish": "/usr/sbin/varnishd",
    "chromium": "/usr/bin/chromium",
    "npm": "/usr/bin/npm",
}
"""Debian packages of the stores, cache and browser that tests start, and of what fetches the schema of AsyncAPI; each
with a path it brings."""

PYTHON_SOURCES = ("services", "operator", "hack", "tests")


@dataclass
class Suite:
    """What the stages share."""

    environment: dict[str, str]
    pytest_arguments: list[str]
    keep: bool
    owns_cluster: bool = False

    def run(self, *command: str, quiet: bool = False) -> None:
        """Run a command of a stage; its output is shown unless it is quiet and succeeds.

        Raises StageError if it fails.
        """
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            check=False,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        if done.returncode:
            if quiet:
                print(done.stdout, flush=True)
            raise StageError(f"`{' '.join(command)[:120]}` failed ({done.returncode})")

    def python(self, *arguments: str, quiet: bool = True) -> None:
        """Run the virtual environment's Python."""
        self.run(sys.executable, *arguments, quiet=quiet)


def tools(suite: Suite) -> None:
    """Install and compile what tests need."""
    toolchain.ensure_debian_packages(TEST_PACKAGES)
    suite.run("python3", "-m", "podium_dev", "tools")


def lint(suite: Suite) -> None:
    """ruff: rules and format."""
    suite.python("-m", "ruff", "check", ".")
    suite.python("-m", "ruff", "format", "--check", ".")


def types(suite: Suite) -> None:
    """mypy --strict."""
    suite.python("-m", "mypy", "--strict", *PYTHON_SOURCES)


def imports(suite: Suite) -> None:
    """import-linter: which package may import which."""
    suite.run(str(Path(sys.executable).parent / "lint-imports"), quiet=True)


def openapi(suite: Suite) -> None:
    """The published OpenAPI document is that of the code."""
    suite.python("hack/checks/openapi.py", "--check")


def docs(suite: Suite) -> None:
    """The documentation's field tables are those of the CRD."""
    suite.python("hack/checks/reference.py", "--check")


def cluster(suite: Suite) -> None:
    """A cluster of the tests' own, with the sample in it."""
    if suite.environment.get(INFO_VARIABLE):
        say(f"using the instance of {suite.environment[INFO_VARIABLE]}")
        return
    suite.environment |= {"PODIUM_INSTANCE": "test", "CLUSTER": suite.environment.get("CLUSTER", "local")}
    suite.owns_cluster = True
    suite.run("make", "--no-print-directory", "up")
    info = subprocess.run(
        ["make", "-s", "info"], cwd=ROOT, env=suite.environment, check=True, capture_output=True, text=True
    )
    with tempfile.NamedTemporaryFile("w", prefix="podium-info-", suffix=".json", delete=False) as file:
        file.write(info.stdout)
    suite.environment[INFO_VARIABLE] = file.name


def charts(suite: Suite) -> None:
    """helm lint, kubeconform against the API server's own schemas, kube-score."""
    suite.python("hack/checks/charts.py", quiet=False)


def tests(suite: Suite) -> None:
    """All tests: unit, integration, operator, end to end, browser."""
    suite.python("-m", "pytest", *suite.pytest_arguments, quiet=False)


STAGES: dict[str, Callable[[Suite], None]] = {
    each.__name__: each for each in (tools, lint, types, imports, openapi, docs, cluster, charts, tests)
}


def _clean_up(suite: Suite) -> None:
    """Remove the tests' own cluster, so that nothing of it is left behind."""
    if not suite.owns_cluster or suite.keep:
        return
    if INFO_VARIABLE in suite.environment:
        Path(suite.environment[INFO_VARIABLE]).unlink(missing_ok=True)
    with stage("Remove the test cluster"):
        suite.run("make", "--no-print-directory", "down", quiet=True)


def main() -> int:
    """Run the stages; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("pytest_arguments", nargs="*")
    options = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(("hack", "services", "operator"))}
    suite = Suite(environment, options.pytest_arguments, options.keep)
    failed: list[str] = []
    begin = time.monotonic()
    try:
        for name in (each for each in STAGES if each in options.only):
            if name == "tests" and failed:
                say(f"these stages failed before the tests: {', '.join(failed)}")
            try:
                with stage((STAGES[name].__doc__ or name).split("\n")[0].rstrip(".")):
                    STAGES[name](suite)
            except StageError as error:
                report_failure(error)
                failed.append(name)
    finally:
        _clean_up(suite)
    verdict = f"failed: {', '.join(failed)}" if failed else "all stages passed"
    say(f"{verdict} ({(time.monotonic() - begin) / 60:.1f} min)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
