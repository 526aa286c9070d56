"""skaffold.yaml builds every image and tells the chart about each; it deploys to a context that is named."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from localimages import catalog

ROOT = Path(__file__).parents[2]
OURS = [image for image in catalog.named([], Path("/nowhere")) if image.context == ROOT]


@pytest.fixture(scope="module")
def skaffold() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "skaffold.yaml").read_text(encoding="utf-8")))


def test_it_builds_what_the_local_cluster_builds(skaffold: dict[str, Any]) -> None:
    built = {
        artifact["image"]: (docker["dockerfile"], docker.get("buildArgs", {}), docker.get("target"))
        for artifact in skaffold["build"]["artifacts"]
        for docker in [artifact["docker"]]
    }
    assert built == {
        f"chatbot-{image.name}": (str(image.dockerfile.relative_to(ROOT)), image.arguments, image.target)
        for image in OURS
    }


def test_the_chart_is_told_of_every_image(skaffold: dict[str, Any]) -> None:
    [release] = skaffold["deploy"]["helm"]["releases"]
    told = release["setValueTemplates"]
    values = yaml.safe_load((ROOT / release["chartPath"] / "values.yaml").read_text(encoding="utf-8"))
    assert {name.partition(".")[2] for name in told if name.startswith("images.")} <= values["images"].keys()
    assert {name.partition(".")[2] for name in told if name.startswith("image.")} <= values["image"].keys()
    for image in OURS:
        assert any(f"_chatbot_{image.name}}}}}" in template for template in told.values())


def test_it_deploys_to_a_context_that_is_named(skaffold: dict[str, Any]) -> None:
    kind = yaml.safe_load((ROOT / "k8s/kind/cluster.yaml").read_text(encoding="utf-8"))
    assert skaffold["deploy"]["kubeContext"] == f"kind-{kind['name']}"


def test_the_chart_and_the_images_agree_on_the_version() -> None:
    chart = yaml.safe_load((ROOT / "charts/chatbot-operator/Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == project["version"] == catalog.version()
