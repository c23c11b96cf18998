"""Skaffold's custom builder for images that carry a program of the toolchain: ``skaffold_build.py NAME``.

Skaffold gives the reference to build in ``IMAGE`` and whether to push it in ``PUSH_IMAGE``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from podium_dev import images


def main() -> int:
    """Build, and push if asked; the exit code is docker's."""
    (name,) = sys.argv[1:]
    image = next(each for each in images.IMAGES if each.name == name)
    reference = os.environ["IMAGE"]
    commands = [images.docker_build(reference, image)]
    if os.environ.get("PUSH_IMAGE") == "true":
        commands.append(["docker", "push", reference])
    return next((code for command in commands if (code := subprocess.run(command, check=False).returncode)), 0)


if __name__ == "__main__":
    sys.exit(main())
