"""A Postgres that is somebody else's, as a bot's owner brings it: a plain pod, and Secrets that lead to it."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.conftest import BOT, NAMESPACE
from tests.e2e.cluster.looking import apply

NAME = "database"
OWNERS = ("auth", "conversation")
STORE: dict[str, Any] = {
    "mode": "External",
    "external": {f"{owner}SecretRef": {"name": f"{NAME}-{owner}"} for owner in OWNERS},
}
"""`spec.stores.postgres` of a bot that uses it."""


@dataclass(frozen=True)
class Database:
    cluster: Cluster
    namespace: str
    password: str = "s3cret"

    def make(self) -> None:
        """With the image and the pod of the sample's own, and without its disk."""
        passwords = dict.fromkeys(("password", *(f"{owner}-password" for owner in OWNERS)), self.password)
        self._apply("Secret", NAME, {"stringData": passwords})
        self._apply("Pod", NAME, {"spec": self._pod()}, {"app": NAME})
        self._apply("Service", NAME, {"spec": {"ports": [{"port": 5432}], "selector": {"app": NAME}}})

    def lead_to(self, host: str = NAME) -> None:
        """Writes the addresses of the databases into the Secrets that a bot names."""
        for owner in OWNERS:
            address = f"postgresql://{owner}:{quote(self.password)}@{host}:5432/{owner}"
            self._apply("Secret", f"{NAME}-{owner}", {"stringData": {"uri": address}})

    def _pod(self) -> dict[str, Any]:
        found = self.cluster.get("-n", NAMESPACE, "statefulset", f"{BOT}-postgres")["spec"]["template"]["spec"]
        volumes = [item for item in found["volumes"] if "projected" not in item and "secret" not in item]
        kept = {"name": "store", "secret": {"secretName": NAME, "defaultMode": 0o440}}
        mounts = [item for item in found["containers"][0]["volumeMounts"] if item["name"] in ("data", "run", "tmp")]
        container = {
            key: found["containers"][0][key]
            for key in ("name", "image", "imagePullPolicy", "securityContext", "ports", "resources")
        }
        container["volumeMounts"] = [*mounts, {"name": "store", "mountPath": "/etc/chatbot/store", "readOnly": True}]
        return {
            "containers": [container],
            "volumes": [*volumes, {"name": "data", "emptyDir": {}}, kept],
            "securityContext": found["securityContext"],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
        }

    def _apply(self, kind: str, name: str, body: dict[str, Any], labels: dict[str, str] | None = None) -> None:
        apply(self.cluster, self.namespace, kind, name, body, labels=labels)
