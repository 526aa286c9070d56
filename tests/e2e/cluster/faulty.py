"""A bot of its own for faults, small, in a namespace that a quota may be put on; its Postgres is somebody else's."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import BOT, FAULTY, NAMESPACE, RESTRICTED, Figures, Platform
from tests.e2e.cluster.looking import conditions
from tests.e2e.cluster.people import ask, sign_in

NAME = "ailing"
OWNERS = ("auth", "conversation")
DATABASE = "database"
SEEN_SECONDS, TOLD_SECONDS = 120.0, 15.0
"""How long Kubernetes may take to show a fault, and the operator to tell it from then on."""


def apply(cluster: Cluster, kind: str, name: str, body: dict[str, Any], api: str = "v1") -> None:
    document = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **body}
    cluster.kubectl("-n", FAULTY, "apply", "-f", "-", stdin=json.dumps(document))


@dataclass
class Ailing:
    cluster: Cluster
    figures: Figures
    password: str = "s3cret"

    def make(self) -> None:
        """The namespace with a Postgres in it, and the bot, which looks for it where nothing listens."""
        self.cluster.kubectl("create", "namespace", FAULTY)
        self.cluster.kubectl("label", "namespace", FAULTY, RESTRICTED)
        self._make_database()
        self.lead_to("nowhere")
        external = {f"{owner}SecretRef": {"name": f"{DATABASE}-{owner}"} for owner in OWNERS}
        spec = {
            "profile": "Dev",
            # Beside the sample's own, and one pod more of each.
            "defaults": {"resources": {"requests": {"cpu": "10m"}}},
            "components": {"chat": {"scaling": {"mode": "Fixed", "replicas": 1}}},
            "stores": {"postgres": {"mode": "External", "external": external}, "vectors": {"type": "PGVector"}},
        }
        apply(self.cluster, "ChatbotDeployment", NAME, {"spec": spec}, "chatbot-operator.io/v1alpha1")

    def lead_to(self, host: str) -> None:
        """Writes the addresses of the databases into the Secrets that the bot names."""
        for owner in OWNERS:
            address = f"postgresql://{owner}:{quote(self.password)}@{host}:5432/{owner}"
            apply(self.cluster, "Secret", f"{DATABASE}-{owner}", {"stringData": {"uri": address}})

    def _make_database(self) -> None:
        """With the image and the pod of the sample's own, and without its disk."""
        found = self.cluster.get("-n", NAMESPACE, "statefulset", f"{BOT}-postgres")["spec"]["template"]["spec"]
        volumes = [item for item in found["volumes"] if "projected" not in item and "secret" not in item]
        kept = {"name": "store", "secret": {"secretName": DATABASE, "defaultMode": 0o440}}
        mounts = [item for item in found["containers"][0]["volumeMounts"] if item["name"] in ("data", "run", "tmp")]
        container = {
            key: found["containers"][0][key]
            for key in ("name", "image", "imagePullPolicy", "securityContext", "ports", "resources")
        }
        container["volumeMounts"] = [*mounts, {"name": "store", "mountPath": "/etc/chatbot/store", "readOnly": True}]
        passwords = dict.fromkeys(("password", *(f"{owner}-password" for owner in OWNERS)), self.password)
        apply(self.cluster, "Secret", DATABASE, {"stringData": passwords})
        spec = {
            "containers": [container],
            "volumes": [*volumes, {"name": "data", "emptyDir": {}}, kept],
            "securityContext": found["securityContext"],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
        }
        self.cluster.kubectl(
            *("-n", FAULTY, "apply", "-f", "-"),
            stdin=json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": DATABASE, "labels": {"app": DATABASE}},
                    "spec": spec,
                }
            ),
        )
        ports = {"ports": [{"port": 5432}]}
        apply(self.cluster, "Service", DATABASE, {"spec": {**ports, "selector": {"app": DATABASE}}})
        apply(self.cluster, "Service", "nowhere", {"spec": {**ports, "selector": {"app": "nobody"}}})

    # -- What is done to it and said of it -----------------------------------------------------------------------------

    def edit(self, spec: dict[str, Any]) -> None:
        """Merges `spec`; None takes a field back."""
        told = json.dumps({"spec": spec})
        self.cluster.kubectl("-n", FAULTY, "patch", "cbd", NAME, "--type=merge", "-p", told)

    def tells(self, fault: str, seen: Callable[[], object], condition: str, reason: str, *words: str) -> str:
        """The message of the condition, once it has the reason and all words; how long it took is noted.

        Args:
            seen: whether Kubernetes shows the fault, so that the operator can know.
        """
        began = time.monotonic()
        wait_for(f"Kubernetes to show: {fault}", seen, SEEN_SECONDS, every=0.2)
        shown = time.monotonic()
        message: str = wait_for(
            f"{condition}={reason} with {words}", lambda: self._said(condition, reason, words), TOLD_SECONDS, every=0.2
        )
        now = time.monotonic()
        self.figures.note(f"{fault} → {reason}", now - began, f", {now - shown:.1f} s after Kubernetes showed it")
        return message

    def _said(self, condition: str, reason: str, words: tuple[str, ...]) -> str:
        found = self.conditions().get(condition, {})
        message = str(found.get("message", ""))
        return message if found.get("reason") == reason and all(word in message for word in words) else ""

    def conditions(self) -> dict[str, dict[str, Any]]:
        return conditions(self.cluster, NAME, FAULTY)

    def explained(self) -> str:
        """What a user reads who asks, on one line."""
        said = self.cluster.chatbot("explain", NAME, "-n", FAULTY)
        print(said)
        return " ".join(said.split())

    def recovers(self, fault: str) -> None:
        began = time.monotonic()
        generation = self.cluster.get("-n", FAULTY, "cbd", NAME)["metadata"]["generation"]

        def settled() -> bool:
            ready = self.conditions().get("Ready", {})
            return ready.get("status") == "True" and ready.get("observedGeneration") == generation

        wait_for(f"the bot to be Ready again after: {fault}", settled, 180)
        self.figures.note(f"{fault} taken back → Ready", time.monotonic() - began)

    def pods(self, part: str) -> list[dict[str, Any]]:
        chosen = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={part}"
        found: list[dict[str, Any]] = self.cluster.get("-n", FAULTY, "pods", "-l", chosen)["items"]
        return found

    def answers(self) -> None:
        """Somebody signs in, asks, and is answered to the end."""
        with serving(self.cluster, FAULTY, NAME) as platform:
            assert ask(platform, sign_in(platform))[-1]["type"] == "run.finished"
        assert self.conditions()["Available"]["status"] == "True"


@contextmanager
def serving(cluster: Cluster, namespace: str, name: str) -> Iterator[Platform]:
    with cluster.forward(namespace, f"svc/{name}-gateway", 80) as port:
        yield Platform(cluster, f"http://127.0.0.1:{port}")
