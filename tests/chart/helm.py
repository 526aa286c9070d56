"""The chart through the `helm` binary: the one of the cluster's home, else one in PATH."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.paths import home

Manifest = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts" / "chatbot-operator"
NAMESPACE = "chatbot-system"


MONITORING = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")


@dataclass(frozen=True)
class Helm:
    program: str

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - no shell
            [self.program, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    def on(self, kubeconfig: Path, *arguments: str, namespace: str = NAMESPACE, **values: Any) -> str:
        """What a command on a cluster says; an AssertionError with it when it fails."""
        where = ("--kubeconfig", str(kubeconfig), "--namespace", namespace)
        done = self.run(*arguments, *where, *_given(values))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def text(self, file: Path | None = None, apis: Sequence[str] = (), **values: Any) -> str:
        """What it renders for these values; a key such as `image.tag` is written `image__tag`.

        Args:
            apis: what the cluster has besides Kubernetes's own.
        """
        done = self._template(file, values, *(f"--api-versions={api}" for api in apis))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def template(self, file: Path | None = None, apis: Sequence[str] = (), **values: Any) -> list[Manifest]:
        """The same as objects."""
        found = yaml.load_all(self.text(file, apis, **values), yaml.CSafeLoader)
        return [document for document in found if document]

    def refusal(self, **values: Any) -> str:
        """What helm says against values."""
        done = self._template(None, values)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _template(self, file: Path | None, values: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
        files = ["--values", str(file)] if file else []
        where = ("--namespace", NAMESPACE)
        return self.run("template", "chatbot-operator", str(CHART), *where, *files, *more, *_given(values))


def _given(values: dict[str, Any]) -> list[str]:
    return [f"--set-json={name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]


def find_helm() -> Helm:
    """Skips the test where there is none; fails it when CHATBOT_REQUIRE_CLUSTER is set."""
    program = shutil.which("helm", path=f"{home() / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        reason = f"needs helm: not in {home() / 'bin'} nor in PATH, build it with `make cluster-build`"
        pytest.fail(reason) if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip(reason)
    return Helm(program)
