"""kubectl, the one built alongside the cluster, bound to a kubeconfig (and a context of it)."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podium_dev import toolchain
from podium_dev.shell import run

_FIELD_MANAGER = "podium-dev"


@dataclass(frozen=True)
class Kubectl:
    """Calls of kubectl. `kubeconfig` None means what kubectl finds by itself."""

    kubeconfig: Path | None
    context: str | None = None

    def argv(self, *arguments: str) -> list[str]:
        """The command line of a call."""
        connection = [] if self.kubeconfig is None else [f"--kubeconfig={self.kubeconfig}"]
        chosen = [] if self.context is None else [f"--context={self.context}"]
        return [str(toolchain.ensure("kubectl")), *connection, *chosen, *arguments]

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run and return standard output; raises StageError on failure."""
        return run(self.argv(*arguments), stdin=stdin, timeout=timeout)

    def apply(self, manifests: str) -> None:
        """Server-side apply of YAML or JSON; raises StageError if refused."""
        self.run(
            "apply",
            "--server-side",
            "--force-conflicts",
            f"--field-manager={_FIELD_MANAGER}",
            "-f",
            "-",
            stdin=manifests,
        )

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None if it does not exist or the API server does not answer."""
        place: Sequence[str] = () if namespace is None else ("--namespace", namespace)
        done = subprocess.run(
            self.argv("get", kind, name, *place, "--output=json", "--request-timeout=10s"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            return None
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def secret(self, name: str, namespace: str) -> dict[str, str] | None:
        """The decoded data of a Secret, or None if there is none."""
        found = self.get("secret", name, namespace)
        if found is None:
            return None
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}
