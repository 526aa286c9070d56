"""A real Kubernetes API for tests: etcd, API server and controller-manager from what `make cluster-build` built.

There is no scheduler and no kubelet: pods stay pending, and Deployments become ready only when a test plays the kubelet
(`ApiServer.patch_status`). The garbage collector and the workload controllers are the real ones.
"""

import contextlib
import itertools
import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
import yaml
from localcluster.paths import Layout, home

from tests.support.patience import clock

Object = dict[str, Any]
T = TypeVar("T")

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
PLURALS = {
    "APIService": "apiregistration.k8s.io/v1/apiservices",
    "ChatbotDeployment": "chatbot-operator.io/v1alpha1/chatbotdeployments",
    "Cluster": "postgresql.cnpg.io/v1/clusters",
    "ConfigMap": "v1/configmaps",
    "ControllerRevision": "apps/v1/controllerrevisions",
    "Database": "postgresql.cnpg.io/v1/databases",
    "Deployment": "apps/v1/deployments",
    "EndpointSlice": "discovery.k8s.io/v1/endpointslices",
    "Event": "v1/events",
    "Gateway": "gateway.networking.k8s.io/v1/gateways",
    "GatewayClass": "gateway.networking.k8s.io/v1/gatewayclasses",
    "HorizontalPodAutoscaler": "autoscaling/v2/horizontalpodautoscalers",
    "HTTPRoute": "gateway.networking.k8s.io/v1/httproutes",
    "Ingress": "networking.k8s.io/v1/ingresses",
    "IngressClass": "networking.k8s.io/v1/ingressclasses",
    "Job": "batch/v1/jobs",
    "Lease": "coordination.k8s.io/v1/leases",
    "LimitRange": "v1/limitranges",
    "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "Namespace": "v1/namespaces",
    "NetworkPolicy": "networking.k8s.io/v1/networkpolicies",
    "PersistentVolumeClaim": "v1/persistentvolumeclaims",
    "Pod": "v1/pods",
    "PodDisruptionBudget": "policy/v1/poddisruptionbudgets",
    "PodMonitor": "monitoring.coreos.com/v1/podmonitors",
    "PrometheusRule": "monitoring.coreos.com/v1/prometheusrules",
    "ReplicaSet": "apps/v1/replicasets",
    "ResourceQuota": "v1/resourcequotas",
    "Role": "rbac.authorization.k8s.io/v1/roles",
    "ScaledObject": "keda.sh/v1alpha1/scaledobjects",
    "Secret": "v1/secrets",
    "Service": "v1/services",
    "ServiceAccount": "v1/serviceaccounts",
    "StatefulSet": "apps/v1/statefulsets",
    "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # The cluster's own controllers.
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}

_namespaces = itertools.count(1)
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")


@dataclass(frozen=True)
class ApiServer:
    """A running one, asked as its administrator. What it refuses is an `httpx2.HTTPStatusError` with its message."""

    layout: Layout
    client: httpx2.Client = field(repr=False)

    @property
    def kubeconfig(self) -> Path:
        return self.layout.kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of kubectl; an AssertionError with what it said when it fails."""
        command = [str(self.layout.bin / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        environment = os.environ | {"GOGC": "off"}  # it lives for a moment
        done = subprocess.run(  # noqa: S603 - our own binary
            command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Object:
        content = None if body is None else json.dumps(body)
        told = {"Content-Type": "application/json"} | dict(headers or {})
        response = self.client.request(method, path, content=content, headers=told)
        if response.is_error:
            raise httpx2.HTTPStatusError(_message(response), request=response.request, response=response)
        found: Object = response.json()
        return found

    def audited(self, user: str) -> "Iterator[Object]":
        """What a ServiceAccount asked for, in order; of a server that was started with `audit`."""
        with audit_log(self.layout).open(encoding="utf-8") as lines:
            # The last line may still be in the writing.
            events = (json.loads(line) for line in lines if line.endswith("\n"))
            yield from (event for event in events if event["user"]["username"] == user)

    def namespace(self) -> str:
        """Name of a fresh namespace; other workers make theirs on the same server."""
        name = f"test-{WORKER}-{next(_namespaces)}"
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def create(self, body: Object, namespace: str | None = None) -> Object:
        return self.request("POST", path(body["kind"], namespace), body)

    def apply(self, body: Object, namespace: str, manager: str = "test") -> Object:
        """By server-side apply, as a person with kubectl would."""
        where = path(body["kind"], namespace, body["metadata"]["name"])
        return self.request("PATCH", f"{where}?fieldManager={manager}&force=true", body, APPLY)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        try:
            return self.request("GET", path(kind, namespace, name))
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise

    def list(self, kind: str, namespace: str, selector: str = "") -> "list[Object]":
        found: list[Object] = self.request("GET", f"{path(kind, namespace)}?labelSelector={selector}")["items"]
        return found

    def patch(self, kind: str, namespace: str, name: str, body: Object, manager: str = "test") -> Object:
        return self.request("PATCH", f"{path(kind, namespace, name)}?fieldManager={manager}", body, MERGE)

    def patch_status(self, kind: str, namespace: str, name: str, status: Object) -> Object:
        """What a controller or kubelet would write."""
        return self.request("PATCH", f"{path(kind, namespace, name)}/status", {"status": status}, MERGE)

    def delete(self, kind: str, namespace: str, name: str, propagation: str = "Background") -> None:
        self.request("DELETE", f"{path(kind, namespace, name)}?propagationPolicy={propagation}")


def path(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """Of a kind, or of one object."""
    version, plural = PLURALS[kind].rsplit("/", 1)
    prefix = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    inside = f"/namespaces/{namespace}" if namespace and kind != "Namespace" else ""
    return f"{prefix}{inside}/{plural}" + (f"/{name}" if name else "")


@contextlib.contextmanager
def playing_kubelet(
    server: ApiServer, namespace: str, ready: Callable[[Object], bool] = lambda _: True
) -> Iterator[None]:
    """Pods of the namespace become ready, and those of Jobs succeed, as soon as they are there.

    Args:
        ready: which pods; the others stay pending.
    """
    with reached(server.layout) as own:

        def play() -> None:
            pending = f"{path('Pod', namespace)}?fieldSelector=status.phase=Pending"
            for pod in own.request("GET", pending)["items"]:
                if ready(pod):
                    _start(own, pod)

        with again_and_again(play):
            yield


@contextlib.contextmanager
def again_and_again(act: Callable[[], None], every: float = 0.4) -> Iterator[None]:
    """Done in a thread of its own while the block runs, as a controller does its work."""
    stop = threading.Event()

    def play() -> None:
        while not stop.wait(every):
            act()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _start(server: ApiServer, pod: Object) -> None:
    job = any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences") or [])
    condition = {"type": "Ready", "status": "False" if job else "True"}
    status = {"phase": "Succeeded" if job else "Running", "conditions": [condition]}
    with contextlib.suppress(httpx2.HTTPStatusError):  # deleted meanwhile
        server.patch_status("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"], status)


def wait_for(what: str, look: Callable[[], T | None], seconds: float = 30, every: float = 0.1) -> T:
    """The first result of `look` that is not empty; an AssertionError that names `what` after `seconds`.

    The longer it takes, the less often it looks: looking keeps what it waits for from working.
    """
    began = clock()
    while not (found := look()):
        waited = clock() - began
        assert waited < seconds, f"waited {seconds:.0f} s for {what}"
        time.sleep(every + waited / 20)
    return found


def audit_log(layout: Layout) -> Path:
    return layout.run / "audit.log"


def built() -> Path:
    """The folder of its programs. Skips the test when they were never built; fails it with CHATBOT_REQUIRE_CLUSTER."""
    programs = home() / "bin"
    if absent := [name for name in PROGRAMS if not (programs / name).exists()]:
        reason = f"needs a real API server: {', '.join(absent)} not in {programs}, build them with `make cluster-build`"
        pytest.fail(reason) if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip(reason)
    return programs


@contextlib.contextmanager
def reached(layout: Layout) -> Iterator[ApiServer]:
    """One that runs."""
    with _client(layout) as client:
        yield ApiServer(layout, client)


def audit_flags(layout: Layout) -> tuple[str, ...]:
    policy = layout.run / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY), encoding="utf-8")
    return f"--audit-policy-file={policy}", f"--audit-log-path={audit_log(layout)}"


def _client(layout: Layout) -> httpx2.Client:
    context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    return httpx2.Client(base_url=layout.server, verify=context, timeout=30)


def install_crds(server: ApiServer) -> None:
    where = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for file in sorted(CRDS.glob("*.yaml")):
        body = yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)
        name = body["metadata"]["name"]
        server.request("PATCH", f"{where}/{name}?fieldManager=test&force=true", body, APPLY)
    wait_for("the kind to be served", lambda: server.client.get(path("ChatbotDeployment")).is_success)


def _message(response: httpx2.Response) -> str:
    """What the API server says is wrong."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError):
        return response.text
