"""One operator and one bot on a real cluster, shared by the tests of this folder in their order.

`make e2e` says which cluster (`E2E_KUBECONFIG`), by default the one of `make cluster-up`; the current context is never
used.
"""

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.e2e.cluster.cluster import Cluster

ROOT = Path(__file__).parents[3]
SYSTEM = "chatbot-system"
NAMESPACE = "chatbot-e2e"
BOT = "harbour"
FAULTY = "chatbot-e2e-faults"
"""Where the bot is that everything is done to."""
CRD = "chatbotdeployments.chatbot-operator.io"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@dataclass
class Figures:
    """What was measured, printed at the end of the run."""

    lines: list[str]

    def note(self, what: str, seconds: float, more: str = "") -> None:
        self.lines.append(f"{what}: {seconds:.1f} s{more}")


@dataclass(frozen=True)
class Platform:
    """The bot as its users reach it."""

    cluster: Cluster
    url: str
    """Of the gateway's Service, through a port-forward."""

    def client(self, token: str | None = None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30)

    def secret(self, name: str, key: str) -> str:
        data = self.cluster.get("-n", NAMESPACE, "secret", name)["data"]
        return base64.b64decode(data[key]).decode()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    kubeconfig = os.environ.get("E2E_KUBECONFIG", "")
    if not Path(kubeconfig).is_file():
        pytest.fail(
            f"No cluster: {kubeconfig or 'E2E_KUBECONFIG is not set'}. Start one with `make cluster-up`, or name one: "
            "make e2e E2E_KUBECONFIG=/path/to/kubeconfig"
        )
    return Cluster(Path(kubeconfig))


FIGURES = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    figures: Figures = request.config.stash.setdefault(FIGURES, Figures([]))
    return figures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(FIGURES, Figures([])).lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def operator(cluster: Cluster, figures: Figures) -> Iterator[None]:
    """Installed as the README says; uninstalled afterwards, with everything the tests made."""
    _refuse_a_cluster_in_use(cluster)
    began = time.monotonic()
    cluster.run(
        "helm",
        *("upgrade", "--install", "chatbot-operator", str(ROOT / "charts/chatbot-operator")),
        *("--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "3m"),
        *os.environ.get("E2E_HELM_ARGS", "").split(),
    )
    figures.note("helm install → operator ready", time.monotonic() - began)
    cluster.kubectl("label", "--overwrite", "namespace", SYSTEM, RESTRICTED)
    yield
    cluster.kubectl("delete", "namespace", NAMESPACE, FAULTY, "--ignore-not-found", "--wait=false")
    cluster.run("helm", "uninstall", "chatbot-operator", "--namespace", SYSTEM, "--wait")
    # All at once: each has pods that take their time to end.
    cluster.kubectl("delete", "namespace", NAMESPACE, FAULTY, SYSTEM, "--ignore-not-found", "--timeout=120s")
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found")


def _refuse_a_cluster_in_use(cluster: Cluster) -> None:
    """These tests remove what they install, down to the definition, and with it every bot there is."""
    found = cluster.kubectl("get", "crd", CRD, "--ignore-not-found", "-o", "name")
    found += cluster.kubectl("get", "namespace", SYSTEM, NAMESPACE, FAULTY, "--ignore-not-found", "-o", "name")
    if found.strip():
        pytest.fail(
            f"This cluster has {', '.join(found.split())} already. The tests would remove them: use another cluster, "
            f"or, if nothing there matters, `helm uninstall` the operator and delete these first."
        )


@pytest.fixture(scope="session")
def bot(cluster: Cluster, operator: None, figures: Figures) -> None:
    """The sample, applied to a namespace that enforces the restricted Pod Security Standard, and Ready."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, RESTRICTED)
    began = time.monotonic()
    cluster.kubectl("-n", NAMESPACE, "apply", "-f", str(ROOT / "k8s/samples/minimal.yaml"))
    wait = ("wait", "--for=condition=Ready", f"cbd/{BOT}", "--timeout=240s")
    said = cluster.kubectl("-n", NAMESPACE, *wait, check=False)
    if "condition met" not in said:
        pytest.fail(said + cluster.kubectl("-n", NAMESPACE, "describe", f"cbd/{BOT}") + describe(cluster))
    figures.note("kubectl apply → Ready", time.monotonic() - began)


def describe(cluster: Cluster) -> str:
    """What one would look at by hand when a bot does not become Ready."""
    looks = (
        ("get", "all,pvc,secret,configmap"),
        ("get", "events", "--sort-by=.lastTimestamp"),
        ("logs", "--prefix", "--tail=20", "-l", f"app.kubernetes.io/instance={BOT}", "--max-log-requests=20"),
    )
    said = [cluster.kubectl("-n", NAMESPACE, *look, check=False) for look in looks]
    operator = cluster.kubectl("-n", SYSTEM, "logs", "deploy/chatbot-operator", "--tail=50", check=False)
    return "\n\n".join([*said, operator])


@pytest.fixture
def platform(cluster: Cluster, bot: None) -> Iterator[Platform]:
    """A forward of its own for each test: it goes to one pod, which the test before may have replaced."""
    with cluster.forward(NAMESPACE, f"svc/{BOT}-gateway", 80) as port:
        yield Platform(cluster, f"http://127.0.0.1:{port}")
