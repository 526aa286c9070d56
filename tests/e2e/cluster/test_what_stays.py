"""What of a bot stays: all of it while no pod runs, and when its data moves; what `Retain` keeps; and at last nothing.

After all else: the sample is gone in the end.
"""

import time

import pytest

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, NAMESPACE, ROOT, Figures
from tests.e2e.cluster.database import STORE, Database
from tests.e2e.cluster.looking import apply_bot, conditions, edit, patch
from tests.e2e.cluster.people import QUESTION, ask, log_in, read, serving, sign_in

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

RETAINED = (
    *(f"PersistentVolumeClaim/data-{{0}}-{store}-0" for store in ("postgres", "weaviate")),
    *(f"Secret/{{0}}-{store}" for store in ("postgres", "redis", "weaviate", "admin")),
)
Talk = tuple[str, list[str]]
"""A conversation, and what was said in it."""


def talk(cluster: Cluster) -> Talk:
    with serving(cluster, NAMESPACE, BOT) as platform:
        token = sign_in(platform)
        conversation = ask(platform, token)[-1]["conversation_id"]
        return conversation, read(platform, token, conversation)


def remembers(cluster: Cluster, known: Talk) -> None:
    """Ada comes in with the password she had, reads what was said, and goes on."""
    conversation, said = known
    assert QUESTION in said
    with serving(cluster, NAMESPACE, BOT) as platform:
        token = log_in(platform)
        assert read(platform, token, conversation) == said
        assert ask(platform, token)[-1]["type"] == "run.finished"


def pods(cluster: Cluster) -> set[str]:
    """Components of all that have not ended."""
    found = cluster.items("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/instance={BOT}")
    alive = (pod for pod in found if pod["status"]["phase"] in ("Pending", "Running"))
    return {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in alive}


def hibernate(cluster: Cluster, figures: Figures) -> None:
    began = time.monotonic()
    generation = patch(cluster, {"mode": "Hibernated"})

    def told() -> bool:
        ready = conditions(cluster)["Ready"]
        return (ready["reason"], ready["observedGeneration"]) == ("Hibernated", generation)

    wait_for("no pod to run", lambda: not pods(cluster), 120)
    figures.note("Hibernated → no pod", time.monotonic() - began)
    wait_for("the status to say so", told, 15)
    found = conditions(cluster)
    assert [found[name]["status"] for name in ("Ready", "Available")] == ["False", "False"]
    line = cluster.kubectl("-n", NAMESPACE, "get", "cbd", BOT).splitlines()[1]
    assert "Hibernated" in line


def wake(cluster: Cluster, figures: Figures) -> None:
    began = time.monotonic()
    edit(cluster, {"mode": "Active"})
    figures.note("Active → Ready", time.monotonic() - began)


def owned_disks(cluster: Cluster) -> int:
    """Disks that go with their stores."""
    disks = cluster.items("-n", NAMESPACE, "pvc", "-l", f"app.kubernetes.io/instance={BOT}")
    return sum("ownerReferences" in disk["metadata"] for disk in disks)


class TestHibernation:
    def test_everything_is_there_again(self, cluster: Cluster, bot: None, figures: Figures) -> None:
        """And stays once that is said, although no store runs that could be told."""
        known = talk(cluster)
        edit(cluster, {"stores": {"deletionPolicy": "Delete"}})
        wait_for("both disks to go with their stores", lambda: owned_disks(cluster) == 2, 15)
        hibernate(cluster, figures)
        patch(cluster, {"stores": {"deletionPolicy": "Retain"}})
        wait_for("no disk to go with its store", lambda: owned_disks(cluster) == 0, 15)
        wake(cluster, figures)
        remembers(cluster, known)


def left(cluster: Cluster, name: str) -> set[str]:
    kinds = "all,cm,secret,sa,pdb,hpa,pvc,endpointslice"
    items = cluster.items("-n", NAMESPACE, kinds, "-l", f"app.kubernetes.io/instance={name}")
    return {f"{item['kind']}/{item['metadata']['name']}" for item in items}


def gone(cluster: Cluster, name: str) -> None:
    """Waits until nothing of the bot is left but what `deletionPolicy: Retain` keeps."""
    kept = {entry.format(name) for entry in RETAINED}
    wait_for(f"only {sorted(kept)} to be left", lambda: left(cluster, name) <= kept, 120)


class TestRetained:
    def test_of_one_that_is_deleted_while_it_is_made(self, cluster: Cluster, bot: None) -> None:
        apply_bot(cluster, NAMESPACE, "hasty", {"profile": "Dev"})
        wait_for("its first pod", lambda: any(name.startswith("Pod/") for name in left(cluster, "hasty")))
        cluster.kubectl("-n", NAMESPACE, "delete", "cbd", "hasty", "--timeout=60s")
        gone(cluster, "hasty")

    def test_a_new_bot_takes_it_over(self, cluster: Cluster, bot: None, figures: Figures) -> None:
        known = talk(cluster)
        cluster.kubectl("-n", NAMESPACE, "delete", "cbd", BOT, "--timeout=60s")
        gone(cluster, BOT)
        assert left(cluster, BOT) == {entry.format(BOT) for entry in RETAINED}
        began = time.monotonic()
        cluster.kubectl("-n", NAMESPACE, "apply", "-f", str(ROOT / "k8s/samples/minimal.yaml"))
        cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"cbd/{BOT}", "--timeout=240s")
        figures.note("apply over kept stores → Ready", time.monotonic() - began)
        remembers(cluster, known)


class TestMoved:
    """As docs/guides/external-stores.md says, from the Postgres that the operator runs to one that somebody brings."""

    def test_the_data_is_where_the_resource_says(self, cluster: Cluster, bot: None, figures: Figures) -> None:
        known, database = talk(cluster), Database(cluster, NAMESPACE)
        # While its stores run: Kubernetes notes it on no disk that no pod has.
        edit(cluster, {"stores": {"deletionPolicy": "Delete"}})
        database.make()
        database.lead_to()
        hibernate(cluster, figures)
        began = time.monotonic()
        patch(cluster, {"stores": {"postgres": STORE}})
        wait_for("both databases to be copied", lambda: where(cluster) == "External", 180)
        figures.note("Postgres copied elsewhere", time.monotonic() - began)
        wake(cluster, figures)
        assert "postgres" not in pods(cluster)
        remembers(cluster, known)


def where(cluster: Cluster) -> str:
    mode: str = cluster.get("-n", NAMESPACE, "cbd", BOT)["status"]["stores"]["postgres"]["mode"]
    return mode


class TestDeleted:
    def test_nothing_is_left(self, cluster: Cluster, bot: None) -> None:
        """Of its former Postgres neither, which stayed until now."""
        assert f"PersistentVolumeClaim/data-{BOT}-postgres-0" in left(cluster, BOT)
        cluster.kubectl("-n", NAMESPACE, "delete", "cbd", BOT, "--timeout=60s")
        wait_for("nothing to be left", lambda: not left(cluster, BOT), 120)
