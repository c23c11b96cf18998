"""skaffold.yaml fits the images and the chart. (Skaffold itself is not needed to see that.)"""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture
def skaffold() -> dict[str, Any]:
    """The configuration."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    return content


@pytest.fixture
def chart_images() -> set[str]:
    """The names of images that the chart takes."""
    values = yaml.safe_load((ROOT / "charts/podium/values.yaml").read_text())["images"]
    return {name for name, value in values.items() if isinstance(value, dict)}


def test_the_version_of_the_format(skaffold: dict[str, Any]) -> None:
    """The one the project promises."""
    assert skaffold["apiVersion"] == "skaffold/v4beta13"


def test_every_image_of_the_chart_is_built(skaffold: dict[str, Any], chart_images: set[str]) -> None:
    """No more and no less, each from a Dockerfile that exists."""
    artifacts = {artifact["image"]: artifact for artifact in skaffold["build"]["artifacts"]}
    assert set(artifacts) == chart_images
    for name, artifact in artifacts.items():
        assert (ROOT / "images" / name / "Dockerfile").is_file()
        if "docker" in artifact:
            assert (ROOT / artifact["context"] / artifact["docker"]["dockerfile"]).is_file()
        else:
            assert artifact["custom"]["buildCommand"] == f"python3 hack/skaffold_build.py {name}"


def test_the_chart_is_given_every_image(skaffold: dict[str, Any], chart_images: set[str]) -> None:
    """Repository and tag of each, by the names the chart has."""
    releases = {release["name"]: release for release in skaffold["deploy"]["helm"]["releases"]}
    assert all((ROOT / release["chartPath"] / "Chart.yaml").is_file() for release in releases.values())
    assert releases["podium"]["setValueTemplates"] == {
        f"images.{name}.{key}": f"{{{{.IMAGE_{variable}_{name}}}}}"
        for name in chart_images
        for key, variable in (("repository", "REPO"), ("tag", "TAG"))
    }
