"""A cluster as its users have it: a kubeconfig, `kubectl` and `helm`. Any cluster will do; none is ever guessed."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support.patience import clock

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    kubeconfig: Path

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [name, "--kubeconfig", str(self.kubeconfig), *arguments]

    def run(
        self, name: str, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 300
    ) -> str:
        """Output of `kubectl` or `helm`; with `check`, an AssertionError that holds what it said when it fails."""
        done = subprocess.run(  # noqa: S603 - tools named here, no shell
            self._command(name, *arguments), input=stdin, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, f"{name} {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self.run("kubectl", *arguments, stdin=stdin, check=check)

    def chatbot(self, *arguments: str) -> str:
        """What `kubectl chatbot` of this checkout says, whatever it thinks of a bot."""
        command = [str(Path(sys.executable).with_name("kubectl-chatbot")), *arguments]
        command += ["--kubeconfig", str(self.kubeconfig)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout  # noqa: S603

    def get(self, *arguments: str) -> Any:
        """Parsed answer of `kubectl get … -o json`; None when it is not there."""
        said = self.kubectl("get", *arguments, "--ignore-not-found", "-o", "json")
        return json.loads(said) if said.strip() else None

    def items(self, *arguments: str) -> list[dict[str, Any]]:
        """Parsed answer for a list; kubectl says nothing of one that is empty."""
        found: list[dict[str, Any]] = (self.get(*arguments) or {"items": []})["items"]
        return found

    @contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """A port on loopback that leads to `port` of `target` (such as `svc/harbour-gateway`)."""
        command = self._command("kubectl", "-n", namespace, "port-forward", target, f":{port}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:  # noqa: S603
            try:
                assert child.stdout
                line = child.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
                assert found, line + child.stdout.read()
                yield int(found[1])
            finally:
                child.terminate()


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 60, every: float = 0.5) -> T:
    """The first result of `look` that is not None or False; an AssertionError that names `what` after `seconds`."""
    end = clock() + seconds
    while True:
        found = look()
        if found:
            return found
        assert clock() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(every)
