"""The chart through the `helm` binary: the one of the cluster's home, else one in PATH."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.paths import home

Manifest = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts" / "chatbot-operator"
NAMESPACE = "chatbot-system"


@dataclass(frozen=True)
class Helm:
    program: str

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - no shell
            [self.program, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    def template(self, file: Path | None = None, **values: Any) -> list[Manifest]:
        """All objects for these values; a key such as `image.tag` is written `image__tag`."""
        done = self._template(file, values)
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    def refusal(self, **values: Any) -> str:
        """What helm says against values."""
        done = self._template(None, values)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _template(self, file: Path | None, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        given = [f"--set-json={name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]
        files = ["--values", str(file)] if file else []
        return self.run("template", "chatbot-operator", str(CHART), "--namespace", NAMESPACE, *files, *given)


def find_helm() -> Helm:
    """Skips the test where there is none; fails it when CHATBOT_REQUIRE_CLUSTER is set."""
    program = shutil.which("helm", path=f"{home() / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        reason = f"needs helm: not in {home() / 'bin'} nor in PATH, build it with `make cluster-build`"
        pytest.fail(reason) if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip(reason)
    return Helm(program)
