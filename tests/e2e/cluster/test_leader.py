"""Two operator pods with the Lease that the chart ships: the one that leads is lost, and the other does its work."""

import time

import pytest

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, NAMESPACE, SYSTEM, Figures

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SECONDS = 30.0
"""What the loss of a leader may cost at most."""
SIGNAL = """
import os, signal, sys
from pathlib import Path

for process in Path("/proc").glob("[0-9]*"):
    if process.name != str(os.getpid()) and b"chatbot_operator" in (process / "cmdline").read_bytes():
        os.kill(int(process.name), getattr(signal, sys.argv[1]))
"""


def leader(cluster: Cluster) -> str:
    """The pod that leads; empty while none does."""
    holder: str = cluster.get("-n", SYSTEM, "lease", "chatbot-operator")["spec"].get("holderIdentity", "")
    return holder


def send(cluster: Cluster, pod: str, signal: str) -> None:
    """To the operator's process in it, from beside it."""
    cluster.kubectl("-n", SYSTEM, "exec", pod, "--", "python", "-c", SIGNAL, signal)


def delete(cluster: Cluster, pod: str) -> None:
    cluster.kubectl("-n", SYSTEM, "delete", "pod", pod, "--grace-period=0", "--force")


def restarts(cluster: Cluster, pod: str) -> int:
    count: int = cluster.get("-n", SYSTEM, "pod", pod)["status"]["containerStatuses"][0]["restartCount"]
    return count


def child(cluster: Cluster) -> str:
    """Of one that nobody misses, the uid; empty while it is not there."""
    found = cluster.get("-n", NAMESPACE, "pdb", f"{BOT}-gateway")
    return found["metadata"]["uid"] if found else ""


@pytest.fixture(autouse=True)
def two(cluster: Cluster, bot: None) -> None:
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deploy/chatbot-operator", "--timeout=60s")
    assert cluster.get("-n", SYSTEM, "deploy", "chatbot-operator")["status"]["readyReplicas"] == 2


def replaced(cluster: Cluster, figures: Figures, old: str, how: str, began: float) -> None:
    """Deletes a child, and waits until another than `old` leads and has made it again."""
    before = child(cluster)
    cluster.kubectl("-n", NAMESPACE, "delete", "pdb", f"{BOT}-gateway", "--wait=false")
    wait_for("another leader", lambda: leader(cluster) not in ("", old), 2 * SECONDS, every=0.2)
    led = time.monotonic() - began
    wait_for("the child to be back", lambda: child(cluster) not in ("", before), SECONDS, every=0.2)
    took = time.monotonic() - began
    figures.note(f"leader {how} → what it missed is done", took, f", another leads after {led:.1f} s")
    assert took < SECONDS


class TestLeader:
    def test_deleted(self, cluster: Cluster, figures: Figures) -> None:
        old, began = leader(cluster), time.monotonic()
        delete(cluster, old)
        replaced(cluster, figures, old, "deleted by force", began)

    def test_frozen_and_it_ends_when_it_thaws(self, cluster: Cluster, figures: Figures) -> None:
        old, began = leader(cluster), time.monotonic()
        ended = restarts(cluster, old)
        send(cluster, old, "SIGSTOP")
        try:
            replaced(cluster, figures, old, "frozen", began)
        finally:
            send(cluster, old, "SIGCONT")
        wait_for("the former leader to end", lambda: restarts(cluster, old) == ended + 1)
        assert leader(cluster) != old
