"""The operator with the chart's rights and no others: they are enough, and each of them is used.

A real installation, whose account's token a real operator process uses. What it asked for is read from the audit log.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import yaml
from chatbot_operator import names
from chatbot_operator.components import secrets
from chatbot_operator.kinds import API_VERSIONS, OPTIONAL, WATCHED, WRITTEN, bots_selector, plural
from chatbot_operator.plan import references
from chatbot_resource.model import API_VERSION, KIND, ChatbotDeployment

from tests.chart.helm import CHART, Helm, Manifest
from tests.operator.processes import as_account, operator
from tests.support.apiserver import CRDS, ApiServer, Object, path, playing_kubelet, wait_for
from tests.support.optional_apis import CLOUD_NATIVE_PG, GATEWAY, KEDA, install

Right = tuple[str, str, str]
"""Group, resource with its subresource, verb."""

BOT, OTHER = "harbour", "haven"
SPEC: Object = {
    "profile": "Dev",
    "stores": {"postgres": {"storage": {"className": "grows"}}},
    "exposure": {"type": "Ingress", "hostnames": ["chat.example.com"]},
    "knowledge": {"faqRef": {"name": "faqs", "key": "faqs.yaml"}},
    "llm": {
        "providers": [{"name": "openai", "type": "OpenAI", "apiKeySecretRef": {"name": "openai", "key": "api-key"}}],
        "models": [{"name": "main", "deployments": [{"provider": "openai", "model": "gpt"}]}],
        "default": "main",
    },
}
OTHERS_SPEC: Object = {
    "profile": "Dev",
    "stores": {"postgres": {"mode": "CloudNativePG"}, "vectors": {"type": "PGVector"}},
}
FAQS: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faqs"}, "data": {"faqs.yaml": "[]"}}
KEY: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}, "data": {"api-key": "a2V5"}}
NOBODYS: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{BOT}-private"}}
"""None of the operator's business, though its name looks like one of its own."""
NO_ROOM: Object = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "no-room"},
    "spec": {"hard": {"pods": "0"}},
}

GROWS: Object = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "grows"},
    "provisioner": "example.com/disks",
    "allowVolumeExpansion": True,
}

JUDGED_BY_ADMISSION: set[Right] = {
    ("chatbot-operator.io", "chatbotdeployments/finalizers", "update"),
    ("", "persistentvolumeclaims", "delete"),
}
"""Asked about by an admission plugin instead of a request; `TestOwnerReferences` shows that it is needed."""

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Installation:
    """One release, and a namespace with a bot."""

    server: ApiServer
    system: str
    team: str
    watched: list[str]

    @property
    def account(self) -> str:
        return f"system:serviceaccount:{self.system}:chatbot-operator"

    def granted(self) -> set[Right]:
        """By the roles that were installed, as the API server has them."""
        here = ("roles", self.team) if self.watched else ("clusterroles", None)
        found = [self._role(*here, "chatbot-operator"), self._role("roles", self.system, "chatbot-operator-lease")]
        return {right for role in found for rule in role["rules"] for right in _rights(rule)}

    def used(self) -> set[Right]:
        return {right for event in self.server.audited(self.account) for right in _asked(event)}

    def refused(self) -> list[str]:
        events = self.server.audited(self.account)
        return [event["requestURI"] for event in events if event.get("responseStatus", {}).get("code") == 403]

    def condition(self, kind: str, field: str = "status") -> str:
        bot = self.server.get("ChatbotDeployment", self.team, BOT) or {}
        found = bot.get("status", {}).get("conditions", [])
        return next((item[field] for item in found if item["type"] == kind), "")

    def _role(self, resource: str, namespace: str | None, name: str) -> Object:
        inside = f"/namespaces/{namespace}" if namespace else ""
        return self.server.request("GET", f"/apis/rbac.authorization.k8s.io/v1{inside}/{resource}/{name}")


def _rights(rule: Object) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            yield from ((group, resource, verb) for verb in rule["verbs"])


def _asked(event: Object) -> Iterator[Right]:
    """None for what is no object, such as the discovery that everybody may do."""
    if "objectRef" not in event:
        return
    about = event["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    yield about.get("apiGroup", ""), resource, event["verb"]
    # A server-side apply that makes something must be allowed both.
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
        yield about.get("apiGroup", ""), resource, "create"


@pytest.fixture(scope="module", params=["cluster", "namespace"])
def installation(request: pytest.FixtureRequest, empty_server: ApiServer, helm: Helm) -> Iterator[Installation]:
    empty_server.kubectl("apply", "--server-side", "-f", str(CRDS))
    empty_server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(GROWS))
    install(empty_server, GATEWAY)
    install(empty_server, KEDA)
    install(empty_server, CLOUD_NATIVE_PG)
    system, team = empty_server.namespace(), empty_server.namespace()
    watched = [] if request.param == "cluster" else [team]
    values = {"crds__enabled": False, "watchNamespaces": watched, "fullnameOverride": "chatbot-operator"}
    helm.on(empty_server.kubeconfig, "install", "chatbot-operator", str(CHART), namespace=system, **values)
    yield Installation(empty_server, system, team, watched)
    helm.on(empty_server.kubeconfig, "uninstall", "chatbot-operator", namespace=system)
    # Other files of tests begin with a server that has never heard of us.
    empty_server.kubectl("delete", "-f", str(CRDS))


@pytest.fixture(scope="module")
def lived(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """After an operator has done all it ever does: made a bot, mended it, and removed what is no longer wanted."""
    server, folder = installation.server, tmp_path_factory.mktemp("operator")
    token = server.kubectl("-n", installation.system, "create", "token", "chatbot-operator").strip()
    with (
        playing_kubelet(server, installation.team),
        operator(
            server,
            folder,
            installation.system,
            kubeconfig=as_account(server, token, folder),
            watch_namespaces=installation.watched,
            # As the chart tells it: who leads signs its account, where former leaders are fenced.
            lease={"namespace": installation.system, "account": "" if installation.watched else "chatbot-operator"},
        ) as process,
    ):
        process.wait_ready()
        for item in (FAQS, KEY, NOBODYS):
            server.create(item, installation.team)
        server.create(NO_ROOM, installation.team)
        body = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "metadata": {"name": BOT}}
        bot = server.create(body | {"spec": SPEC}, installation.team)
        wait_for("what is refused", lambda: installation.condition("PostgresReady", "reason") == "PodsRefused", 60)
        server.delete("ResourceQuota", installation.team, NO_ROOM["metadata"]["name"])
        wait_for("the bot to be ready", lambda: installation.condition("Ready") == "True", 60)
        _outgrow(server, installation.team)
        _move(server, installation.team)
        _let_go(installation)
        _run_by_another(server, installation.team)
        leftovers = [_leftover(kind, bot) for kind in (*WRITTEN, *OPTIONAL)]
        for item in leftovers:
            server.create(item, installation.team)
        wait_for("what is not wanted to go", lambda: not _there(server, installation.team, leftovers), 60)
        assert process.stop() == 0
        assert not [line for line in process.lines() if line["level"] not in ("info", "debug")]
    return installation


def _outgrow(server: ApiServer, namespace: str) -> None:
    """The bot's disk becomes too small for it, and grows."""
    disk = f"data-{BOT}-postgres-0"
    server.patch_status("PersistentVolumeClaim", namespace, disk, {"phase": "Bound"})
    server.patch("ChatbotDeployment", namespace, BOT, {"spec": {"stores": {"postgres": {"storage": {"size": "3Gi"}}}}})

    def size() -> str:
        live = server.get("PersistentVolumeClaim", namespace, disk) or {}
        return str(live["spec"]["resources"]["requests"]["storage"])

    wait_for("the disk to grow", lambda: size() == "3Gi", 60)


def _let_go(lived: Installation) -> None:
    """The disk that is to stay after all is taken from a store that sleeps."""

    def owned() -> bool:
        disk = lived.server.get("PersistentVolumeClaim", lived.team, f"data-{BOT}-postgres-0") or {"metadata": {}}
        return "ownerReferences" in disk["metadata"]

    def edit(**spec: Any) -> None:
        lived.server.patch("ChatbotDeployment", lived.team, BOT, {"spec": spec})

    edit(stores={"deletionPolicy": "Delete"})
    wait_for("the disk to go with its store", owned, 60)
    edit(mode="Hibernated")
    wait_for("the bot to sleep", lambda: lived.condition("Ready", "reason") == "Hibernated", 60)
    edit(stores={"deletionPolicy": "Retain"})
    wait_for("the disk to stay", lambda: not owned(), 60)


def _move(server: ApiServer, namespace: str) -> None:
    """From an Ingress to a Gateway, and from the cluster's autoscaler to KEDA."""
    exposure = {"type": "HTTPRoute", "parentRefs": [{"name": "web"}]}
    components = {"chat": {"scaling": {"mode": "KEDA"}}}
    server.patch("ChatbotDeployment", namespace, BOT, {"spec": {"exposure": exposure, "components": components}})
    wait_for("the route", lambda: server.get("HTTPRoute", namespace, f"{BOT}-gateway"), 60)
    wait_for("the ScaledObject", lambda: server.get("ScaledObject", namespace, f"{BOT}-chat"), 60)


def _run_by_another(server: ApiServer, namespace: str) -> None:
    """Another bot, whose Postgres CloudNativePG is to run."""
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": OTHER}, "spec": OTHERS_SPEC}
    server.create(body, namespace)
    wait_for("the database", lambda: server.get("Database", namespace, f"{OTHER}-postgres-conversation"), 60)
    server.delete("ChatbotDeployment", namespace, OTHER)


def _leftover(kind: str, bot: Object) -> Manifest:
    """A child such as a later version may have made, and this one knows nothing of."""
    labels = {names.BOT: BOT, names.INSTANCE: BOT, names.MANAGED_BY: names.FIELD_MANAGER, names.REFERENCED: "true"}
    owner = {"apiVersion": bot["apiVersion"], "kind": bot["kind"], "name": BOT, "uid": bot["metadata"]["uid"]}
    metadata = {"name": f"{BOT}-later", "labels": labels, "ownerReferences": [owner | {"controller": True}]}
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, **_SMALLEST.get(kind, {})}


_PODS = {
    "metadata": {"labels": {"app": "later"}},
    "spec": {"containers": [{"name": "a", "image": "a"}], "restartPolicy": "Always"},
}
_WORKLOAD: Object = {"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "later"}}, "template": _PODS}}
_SMALLEST: dict[str, Object] = {
    "Deployment": _WORKLOAD,
    "StatefulSet": _WORKLOAD,
    "Service": {"spec": {"ports": [{"port": 80}]}},
    "Job": {"spec": {"suspend": True, "template": {"spec": _PODS["spec"] | {"restartPolicy": "Never"}}}},
    "ControllerRevision": {"revision": 1, "data": {"spec": {}}},
    "NetworkPolicy": {"spec": {"podSelector": {"matchLabels": {"app": "later"}}}},
    "Cluster": {"spec": {"instances": 1, "storage": {"size": "1Gi"}}},
    "Database": {"spec": {"cluster": {"name": "later"}, "name": "later", "owner": "later"}},
    "HTTPRoute": {"spec": {"parentRefs": [{"name": "web"}], "rules": [{}]}},
    "ScaledObject": {"spec": {"scaleTargetRef": {"name": "later"}, "triggers": []}},
    "PodMonitor": {"spec": {"selector": {}, "podMetricsEndpoints": []}},
    "PrometheusRule": {"spec": {"groups": []}},
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "later", "port": {"number": 80}}}}},
    "HorizontalPodAutoscaler": {
        "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "later"}}
    },
}


def _there(server: ApiServer, namespace: str, items: list[Manifest]) -> list[str]:
    return [item["kind"] for item in items if server.get(item["kind"], namespace, item["metadata"]["name"])]


def secrets_of(name: str, spec: Object) -> set[str]:
    """Names of those that the operator makes for a bot, and of those that it refers to."""
    metadata = {"name": name, "namespace": "team"}
    bot = ChatbotDeployment.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    )
    referred = {reference.name for reference in references(bot) if reference.kind == "Secret"}
    return {item.name for item in secrets.wanted(bot)} | referred


class TestRights:
    def test_are_enough(self, lived: Installation) -> None:
        assert lived.refused() == []

    def test_are_all_used(self, lived: Installation) -> None:
        assert lived.granted() - lived.used() == JUDGED_BY_ADMISSION

    def test_are_for_kinds_the_operator_knows(self, lived: Installation) -> None:
        own = {"chatbotdeployments/status", "chatbotdeployments/finalizers"}
        known = {plural(kind) for kind in API_VERSIONS} | own
        assert {resource for _, resource, _ in lived.granted()} <= known

    def test_are_for_its_own_lease_alone(self, lived: Installation) -> None:
        events = lived.server.audited(lived.account)
        leases = [event["objectRef"] for event in events if event.get("objectRef", {}).get("resource") == "leases"]
        assert {(item["namespace"], item.get("name", names.LEASE)) for item in leases} == {(lived.system, names.LEASE)}

    def test_reach_no_secret_but_ours_and_those_referred_to(self, lived: Installation) -> None:
        events = [event for event in lived.server.audited(lived.account) if "objectRef" in event]
        events = [event for event in events if event["objectRef"]["resource"] == "secrets"]
        read = {event["objectRef"]["name"] for event in events if event["verb"] == "get"}
        assert KEY["metadata"]["name"] in read
        assert read <= secrets_of(BOT, SPEC) | secrets_of(OTHER, OTHERS_SPEC)
        found = [event["requestURI"] for event in events if event["verb"] in ("list", "watch")]
        chosen = {parse_qs(urlsplit(uri).query).get("labelSelector", ["every"])[0] for uri in found}
        assert chosen == {WATCHED["Secret"], *(bots_selector(name, "Secret") for name in (BOT, OTHER))}

    def test_end_at_the_namespaces_it_watches(self, lived: Installation) -> None:
        events = [event for event in lived.server.audited(lived.account) if "objectRef" in event]
        where = {event["objectRef"].get("namespace") for event in events}
        assert where == ({lived.system, lived.team} if lived.watched else {lived.system, lived.team, None})


class TestOwnerReferences:
    """Where clusters check who holds an owner back, as test servers do."""

    def write(self, lived: Installation, user: str) -> None:
        [bot] = lived.server.list("ChatbotDeployment", lived.team)
        owner = {"apiVersion": "chatbot-operator.io/v1alpha1", "kind": "ChatbotDeployment", "name": BOT}
        owner |= {"uid": bot["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "ownerReferences": [owner]}}
        where = f"{path('ConfigMap', lived.team)}?dryRun=All"
        lived.server.request("POST", where, body, {"Impersonate-User": user})

    def test_need_a_right_of_their_own(self, lived: Installation) -> None:
        self.write(lived, lived.account)
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "maker", "namespace": lived.team},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}],
        }
        lived.server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(role))
        lived.server.kubectl("-n", lived.team, "create", "rolebinding", "maker", "--role=maker", "--user=maker")
        with pytest.raises(httpx2.HTTPStatusError, match="blockOwnerDeletion"):
            self.write(lived, "maker")
