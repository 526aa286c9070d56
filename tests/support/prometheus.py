"""Prometheus itself and its promtool, for tests: the real ones check rules, scrape pods and answer queries."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from localcluster import unpacked
from localcluster.paths import home

from tests.support.apiserver import wait_for
from tests.support.serving import free_port

Manifest = dict[str, Any]
Series = Mapping[str, str]
"""Selector → values, one a minute, in promtool's notation."""


def program(name: str) -> Path:
    """Skips the test when it is not there; fails it when CHATBOT_REQUIRE_CLUSTER is set."""
    folder = home() / "bin"
    found = unpacked.find(name, folder)
    if found is None:
        reason = f"needs {name}, which is neither in {folder} nor on the PATH: `make cluster-build` fetches it"
        (pytest.fail if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip)(reason)
    return found


def promtool(*arguments: str | Path) -> str:
    """What it says; an AssertionError with that when it finds fault."""
    command, environment = [program("promtool"), *arguments], os.environ | {"GOGC": "off"}  # it lives for a moment
    done = subprocess.run(  # noqa: S603 - no shell
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules_file(folder: Path, groups: Iterable[Manifest]) -> Path:
    file = folder / "rules.yaml"
    file.write_text(json.dumps({"groups": list(groups)}), encoding="utf-8")
    return file


def judged(folder: Path, groups: Iterable[Manifest], series: Series, **expected: Any) -> None:
    """An AssertionError with what promtool got instead."""
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {
        "rule_files": [str(rules_file(folder, groups))],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": given, **expected}],
    }
    file = folder / "test.yaml"
    file.write_text(json.dumps(test), encoding="utf-8")
    promtool("test", "rules", file)


@dataclass(frozen=True)
class Case:
    """What an alert makes of some series."""

    says: str
    alert: str
    series: Series
    minute: int
    firing: tuple[str, ...] = ()
    """Labels of each that has to fire."""


def fires(folder: Path, groups: Iterable[Manifest], case: Case, labels: str) -> None:
    """An AssertionError unless just these fire.

    Args:
        labels: names of those that the case tells.
    """
    expr = f'count by ({labels}) (ALERTS{{alertname="{case.alert}",alertstate="firing"}})'
    samples = [{"labels": one, "value": 1} for one in case.firing]
    expected = {"expr": expr, "eval_time": f"{case.minute}m", "exp_samples": samples}
    judged(folder, groups, case.series, promql_expr_test=[expected])


@dataclass(frozen=True)
class Target:
    """What Prometheus would find of one pod."""

    port: int
    labels: Mapping[str, str]
    """Of the pod."""
    namespace: str = "team"
    name: str = "pod"
    port_name: str = "private"


def scrape_config(monitor: Manifest, targets: Iterable[Target]) -> Manifest:
    """What the Prometheus operator makes of a PodMonitor (v0.85.0, pkg/prometheus/promcfg.go), with the pods given.

    Only the parts that our monitors use.
    """
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    metadata = monitor["metadata"]
    keep = [
        {"action": "keep", "source_labels": [_meta(f"pod_label_{label}")], "regex": value}
        for label, value in monitor["spec"]["selector"]["matchLabels"].items()
    ]
    own = [_meta("namespace"), _meta("pod_container_name"), _meta("pod_name")]
    return {
        "job_name": f"podMonitor/{metadata['namespace']}/{metadata['name']}/0",
        "metrics_path": endpoint.get("path", "/metrics"),
        "relabel_configs": [
            *keep,
            {"action": "keep", "source_labels": [_meta("pod_container_port_name")], "regex": endpoint["port"]},
            *(
                {"source_labels": [source], "target_label": label}
                for source, label in zip(own, ("namespace", "container", "pod"), strict=True)
            ),
            {"target_label": "job", "replacement": f"{metadata['namespace']}/{metadata['name']}"},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *map(_snake, endpoint.get("relabelings", [])),
        ],
        "static_configs": [_static(target) for target in targets],
    }


def _static(target: Target) -> Manifest:
    found = {
        "namespace": target.namespace,
        "pod_name": target.name,
        "pod_container_name": target.labels.get("app.kubernetes.io/component", ""),
        "pod_container_port_name": target.port_name,
        **{f"pod_label_{label}": value for label, value in target.labels.items()},
    }
    return {
        "targets": [f"127.0.0.1:{target.port}"],
        "labels": {_meta(name): value for name, value in found.items()},
    }


def _meta(name: str) -> str:
    return "__meta_kubernetes_" + "".join(letter if letter.isalnum() else "_" for letter in name)


def _snake(relabeling: Manifest) -> Manifest:
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    return {names.get(key, key): value for key, value in relabeling.items()}


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    client: httpx2.Client

    def query(self, expr: str) -> list[Manifest]:
        """The samples of an expression now; an AssertionError when it has none of its own sense."""
        answer = self.client.get("/api/v1/query", params={"query": expr})
        assert answer.is_success, f"{expr}\n{answer.text}"
        found: list[Manifest] = answer.json()["data"]["result"]
        return found

    def value(self, expr: str) -> float:
        """Of an expression that has one sample."""
        [sample] = self.query(expr)
        return float(sample["value"][1])

    def rules(self) -> list[Manifest]:
        groups = self.client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def targets(self) -> list[Manifest]:
        found: list[Manifest] = self.client.get("/api/v1/targets").json()["data"]["activeTargets"]
        return found


@contextlib.contextmanager
def running_prometheus(scrape: Iterable[Manifest], groups: Iterable[Manifest] = ()) -> Iterator[Prometheus]:
    """One that scrapes every second, and judges rules as often."""
    with tempfile.TemporaryDirectory(prefix="prometheus-", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": list(groups)}), encoding="utf-8")
        told = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": list(scrape),
        }
        (folder / "prometheus.yaml").write_text(json.dumps(told), encoding="utf-8")
        command = [
            str(program("prometheus")),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - no shell
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                wait_for("Prometheus", lambda: _is_ready(client, process, folder / "log"), 60)
                yield Prometheus(client)
        finally:
            process.kill()
            process.wait(10)


def _is_ready(client: httpx2.Client, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text(encoding="utf-8")
    with contextlib.suppress(httpx2.HTTPError):
        return client.get("/-/ready").is_success
    return False
