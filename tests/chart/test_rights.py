"""The rendered roles and the fencing policy on a real API server: where they hold, and what they leave out.

That the roles are enough, and each right is used, is shown by test_least_privilege.py.
"""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import yaml
from chatbot_operator import names
from chatbot_operator.faults import FENCED

from tests.chart.helm import NAMESPACE, Helm
from tests.support.apiserver import MERGE, ApiServer, path, wait_for

NAME = "chatbot-operator"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:chatbot-operator"
MAY_NOT = {
    "chatbotdeployments.chatbot-operator.io": ("create", "update", "patch", "delete"),
    "pods": ("create", "delete"),
    "pods/exec": ("create",),
    "pods/log": ("get",),
    "secrets": ("update", "deletecollection"),
    "serviceaccounts/token": ("create",),
    "namespaces": ("list", "watch", "create"),
    "nodes": ("list",),
    "customresourcedefinitions.apiextensions.k8s.io": ("list", "create"),
    "clusterroles.rbac.authorization.k8s.io": ("create", "bind", "escalate"),
    "rolebindings.rbac.authorization.k8s.io": ("create",),
    "leases.coordination.k8s.io": ("list", "delete"),
}


def allowed(api_server: ApiServer, namespace: str, resource: str, verb: str, user: str = ACCOUNT) -> bool:
    """What the API server's authorizer says of a user: `resource` as `deployments.apps` or `pods/exec`."""
    plain, _, subresource = resource.partition("/")
    name, _, group = plain.partition(".")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    review = api_server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(review["status"]["allowed"])


def granted(api_server: ApiServer, namespace: str, table: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{verb} {resource}"
        for resource, verbs in table.items()
        for verb in verbs
        if allowed(api_server, namespace, resource, verb)
    ]


def rules(helm: Helm) -> dict[str, tuple[str, ...]]:
    """All that is granted where resources are, in the form of `MAY_NOT`."""
    [role] = [item for item in helm.template() if (item["kind"], item["metadata"]["name"]) == ("ClusterRole", NAME)]
    return {
        full_name(group, resource): tuple(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def full_name(group: str, resource: str) -> str:
    """As kubectl writes it: `deployments.apps`, `pods/exec`."""
    plain, _, subresource = resource.partition("/")
    return "/".join(filter(None, (".".join(filter(None, (plain, group))), subresource)))


@pytest.fixture(scope="module")
def install(api_server: ApiServer, helm: Helm) -> Callable[..., None]:
    """Applies the chart's objects; the definition is there already."""
    api_server.kubectl("create", "namespace", NAMESPACE)

    def apply(**values: Any) -> None:
        objects = helm.template(crds__enabled=False, **values)
        api_server.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    return apply


@pytest.fixture(scope="module")
def team(api_server: ApiServer) -> str:
    return api_server.namespace()


class TestNamespaced:
    """First, while nothing was granted on the cluster."""

    def test_only_there_and_no_more(
        self, api_server: ApiServer, install: Callable[..., None], helm: Helm, team: str
    ) -> None:
        other = api_server.namespace()
        install(watchNamespaces=[team])
        wait_for("the role", lambda: allowed(api_server, team, "secrets", "create"))
        every = rules(helm)
        assert granted(api_server, team, every) == [f"{verb} {name}" for name, verbs in every.items() for verb in verbs]
        assert granted(api_server, other, every) == []
        assert granted(api_server, team, MAY_NOT) == []


class TestClusterWide:
    def test_no_more(self, api_server: ApiServer, install: Callable[..., None]) -> None:
        namespace = api_server.namespace()
        install()
        wait_for("the role", lambda: allowed(api_server, namespace, "secrets", "create"))
        assert granted(api_server, namespace, MAY_NOT) == []

    def test_the_lease_is_its_own(self, api_server: ApiServer, install: Callable[..., None]) -> None:
        install()
        wait_for("the role", lambda: allowed(api_server, NAMESPACE, "leases.coordination.k8s.io", "create"))
        assert not allowed(api_server, "default", "leases.coordination.k8s.io", "create")

    def test_who_may_edit_a_namespace_may_edit_its_bots(
        self, api_server: ApiServer, install: Callable[..., None]
    ) -> None:
        namespace = api_server.namespace()
        install()
        for role in ("view", "edit"):
            api_server.kubectl(
                "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "-n", namespace
            )
        bots = "chatbotdeployments.chatbot-operator.io"
        wait_for("the roles", lambda: allowed(api_server, namespace, bots, "create", "edit"))
        wait_for("the roles", lambda: allowed(api_server, namespace, bots, "list", "view"))
        assert not allowed(api_server, namespace, bots, "create", "view")


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


class TestFencing:
    def write(self, api_server: ApiServer, namespace: str, pod: str, name: str) -> str:
        """What the API server says against a write of the operator in that pod; empty when it takes it."""
        headers = {"Impersonate-User": ACCOUNT, "Impersonate-Extra-authentication.kubernetes.io%2Fpod-name": pod}
        try:
            api_server.request("POST", f"{path('ConfigMap', namespace)}?dryRun=All", config_map(name), headers)
        except httpx2.HTTPStatusError as error:
            return str(error)
        return ""

    def sign(self, api_server: ApiServer, pod: str) -> None:
        """As the leader in that pod does it."""
        headers = {"Impersonate-User": ACCOUNT, "Impersonate-Extra-authentication.kubernetes.io%2Fpod-name": pod}
        body = {"metadata": {"annotations": {names.LEADER: pod}}}
        where = path("ServiceAccount", NAMESPACE, "chatbot-operator")
        api_server.request("PATCH", where, body, MERGE | headers)

    def test_only_the_pod_that_has_signed_writes_also_after_a_new_installation(
        self, api_server: ApiServer, install: Callable[..., None]
    ) -> None:
        """Up to 1.36, API servers keep a stopped copy of most kinds once the last policy with them was deleted."""
        namespace = api_server.namespace()
        install()
        for installation in ("a", "b"):
            self.lead_in_turn(api_server, namespace, f"{installation}-1", f"{installation}-2")
            for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
                api_server.kubectl("delete", kind, "chatbot-operator-fencing")
            api_server.delete("ServiceAccount", NAMESPACE, "chatbot-operator")
            wait_for("it to be gone", lambda: self.write(api_server, namespace, "anybody", "a") == "")
            install()

    def lead_in_turn(self, api_server: ApiServer, namespace: str, one: str, two: str) -> None:
        assert self.write(api_server, namespace, one, "a") == ""
        self.sign(api_server, one)
        wait_for("the other to be refused", lambda: FENCED in self.write(api_server, namespace, two, "a"))
        assert self.write(api_server, namespace, one, "a") == ""
        self.sign(api_server, two)
        wait_for("the next leader to write", lambda: self.write(api_server, namespace, two, "a") == "")
        assert FENCED in self.write(api_server, namespace, one, "a")

    def test_all_it_may_write_is_fenced_but_the_signature_leases_and_events(self, helm: Helm) -> None:
        objects = helm.template()
        policy = next(item for item in objects if item["kind"] == "ValidatingAdmissionPolicy")
        role = next(
            item for item in objects if item["kind"] == "ClusterRole" and item["metadata"]["name"] == "chatbot-operator"
        )
        rules = policy["spec"]["matchConstraints"]["resourceRules"]
        fenced = {(group, name) for rule in rules for group in rule["apiGroups"] for name in rule["resources"]}
        written = {
            (group, name)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for name in rule["resources"]
            if {"create", "patch", "delete"} & set(rule["verbs"])
        }
        assert fenced == written - {("", "events")}

    def test_nobody_else_is_concerned_whether_somebody_leads_or_not(
        self, api_server: ApiServer, install: Callable[..., None]
    ) -> None:
        install()
        namespace = api_server.namespace()
        self.sign(api_server, "one")
        api_server.create(config_map("with"), namespace)
        api_server.delete("ServiceAccount", NAMESPACE, "chatbot-operator")
        api_server.create(config_map("without"), namespace)
