"""A bot of its own for faults, small, in a namespace that a quota may be put on; its Postgres is somebody else's."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.e2e.cluster.cluster import Cluster, wait_for
from tests.e2e.cluster.conftest import FAULTY, RESTRICTED, Figures
from tests.e2e.cluster.database import STORE, Database
from tests.e2e.cluster.looking import apply, apply_bot, conditions
from tests.e2e.cluster.people import ask, serving, sign_in

NAME = "ailing"
SEEN_SECONDS, TOLD_SECONDS = 120.0, 15.0
"""How long Kubernetes may take to show a fault, and the operator to tell it from then on."""


@dataclass
class Ailing:
    cluster: Cluster
    figures: Figures

    @property
    def database(self) -> Database:
        return Database(self.cluster, FAULTY)

    def make(self) -> None:
        """The namespace with a Postgres in it, and the bot, which looks for it where nothing listens."""
        self.cluster.kubectl("create", "namespace", FAULTY)
        self.cluster.kubectl("label", "namespace", FAULTY, RESTRICTED)
        self.database.make()
        self.apply("Service", "nowhere", {"spec": {"ports": [{"port": 5432}], "selector": {"app": "nobody"}}})
        self.database.lead_to("nowhere")
        spec = {
            "profile": "Dev",
            # Beside the sample's own, and one pod more of each.
            "defaults": {"resources": {"requests": {"cpu": "10m"}}},
            "components": {"chat": {"scaling": {"mode": "Fixed", "replicas": 1}}},
            "stores": {"postgres": STORE, "vectors": {"type": "PGVector"}},
        }
        apply_bot(self.cluster, FAULTY, NAME, spec)

    # -- What is done to it and said of it -----------------------------------------------------------------------------

    def apply(self, kind: str, name: str, body: dict[str, Any]) -> None:
        apply(self.cluster, FAULTY, kind, name, body)

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
        return self.cluster.items("-n", FAULTY, "pods", "-l", chosen)

    def answers(self) -> None:
        """Somebody signs in, asks, and is answered to the end."""
        with serving(self.cluster, FAULTY, NAME) as platform:
            assert ask(platform, sign_in(platform))[-1]["type"] == "run.finished"
        assert self.conditions()["Available"]["status"] == "True"
