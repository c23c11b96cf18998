"""Checks the manifests: the charts, the examples, and everything the operator renders from the examples.

``helm lint``, kubeconform with schemas from a running API server (so with our CRD), and kube-score.
"""

from __future__ import annotations

import json
import os
import re
import string
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
for folder in ("hack", "operator", "services"):
    sys.path.insert(0, str(ROOT / folder))

from checks import schemas  # noqa: E402
from podium_dev import toolchain  # noqa: E402
from podium_operator.builders.base import Images, Inputs  # noqa: E402
from podium_operator.components import render  # noqa: E402
from podium_operator.spec import ScoreboardSpec  # noqa: E402

INFO_VARIABLE = "PODIUM_E2E_INFO"
"""Names the file with the answer of ``make -s info``; its kubeconfig leads to the API server."""

NOT_APPLICABLE = {
    "container-image-pull-policy": "a tag names one content, so an image never changes under it",
    "container-ephemeral-storage-request-and-limit": "root file systems are read-only",
    "container-security-context-user-group-id": "PostgreSQL runs as its image's own user; runAsNonRoot guards it",
    "statefulset-has-host-podantiaffinity": "topologySpreadConstraints do this",
    "deployment-has-host-podantiaffinity": "topologySpreadConstraints do this",
    "service-targets-pod": "Services of one pod select labels that pods get when they run (pod name, role)",
    "horizontalpodautoscaler-replicas": "the sample fits two cores",
    "deployment-replicas": "the sample fits two cores, and the operator is one pod on purpose",
}
"""Tests of kube-score that are left out, and why."""

UNSERVED_KINDS = "HTTPRoute,PodMonitor,PrometheusRule"
"""Kinds whose API the test cluster does not serve; golden files and, for HTTPRoute, a CRD of the tests hold them."""

Manifest = dict[str, Any]
Command = list[str | Path]


def main() -> int:
    """Run all checks; 1 if any failed."""
    charts = sorted(path.parent for path in ROOT.glob("charts/*/Chart.yaml"))
    failed = [_run([toolchain.ensure("helm"), "lint", *charts])]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        _write_schemas(directory / "schemas")
        manifests = [_write(directory / f"chart-{chart.name}.yaml", _template(chart)) for chart in charts]
        rendered = [
            _write(directory / f"rendered-{path.stem}.yaml", yaml.dump_all(objects))
            for path in _examples()
            if (objects := _rendered(path))
        ]
        examples = [_write(directory / f"example-{path.name}", _filled(path)) for path in _examples()]
        location = f"{directory}/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
        conform: Command = [
            toolchain.ensure("kubeconform"),
            "-strict",
            "-summary",
            "-skip",
            UNSERVED_KINDS,
            "-schema-location",
            location,
        ]
        failed.append(_run([*conform, *manifests, *rendered, *examples]))
        # No CPU limits on purpose: throttling would add latency, and requests share the CPU fairly without it.
        ignored = [option for test in NOT_APPLICABLE for option in ("--ignore-test", test)]
        score: Command = [
            toolchain.ensure("kube-score"),
            "score",
            "--output-format",
            "ci",
            "--ignore-container-cpu-limit",
            *ignored,
        ]
        failed.append(_run([*score, *manifests, *rendered], hide=r"^\[OK\]|^\[SKIPPED\]"))
    return int(any(failed))


def _examples() -> list[Path]:
    return sorted((ROOT / "examples").glob("*.yaml"))


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _filled(path: Path) -> str:
    """An example with some image in the place of each ``${IMAGE_…}``."""
    template = string.Template(path.read_text())
    names = re.findall(r"\$\{(\w+)\}", template.template)
    return template.safe_substitute(dict.fromkeys(names, "localhost/podium/any:tag"))


def _template(chart: Path) -> str:
    command = [str(toolchain.ensure("helm")), "template", "podium", str(chart), "--namespace", "podium-system"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _rendered(path: Path) -> list[Manifest]:
    """All objects that the operator makes of the Scoreboards of a file."""
    images = Images(
        *(f"localhost/podium/{name}:1" for name in ("podium", "redis", "nats", "postgres", "envoy", "ratelimit"))
    )
    objects: list[Manifest] = []
    for document in yaml.safe_load_all(_filled(path)):
        if document and document["kind"] == "Scoreboard":
            metadata = document["metadata"]
            spec = ScoreboardSpec.model_validate(document.get("spec", {}))
            inputs = Inputs(metadata["name"], metadata.get("namespace", "default"), spec, images, "1")
            objects += [item for component in render(inputs, {}).values() for item in component.objects]
    return objects


def _write_schemas(directory: Path) -> None:
    """Schemas of the API server of the instance that the environment names."""
    directory.mkdir()
    kubeconfig = json.loads(Path(os.environ[INFO_VARIABLE]).read_text())["kubeconfig"]
    command = [str(toolchain.ensure("kubectl")), "--kubeconfig", kubeconfig, "get", "--raw", "/openapi/v2"]
    answer = subprocess.run(command, check=True, capture_output=True).stdout
    schemas.write(json.loads(answer), directory)


def _run(command: Command, hide: str | None = None) -> bool:
    """Run a check, show what it says, and return whether it failed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not (hide and re.match(hide, line))]
    print("\n".join(lines), flush=True)
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
