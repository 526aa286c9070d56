"""A real KEDA beside a bare API server: its operator, its metrics adapter, and the webhook that judges ScaledObjects.

They know each other by one certificate, for 127.0.0.1. The API server finds the adapter as it finds every other one: by
an APIService, its Service, and an EndpointSlice, here written by hand.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.extra.programs import running
from tests.e2e.extra.services import endpoints
from tests.e2e.extra.webhooks import asked
from tests.support.apiserver import ApiServer, path, wait_for
from tests.support.doors import certified
from tests.support.optional_apis import KEDA_CONTROLLER, install, remove, source
from tests.support.serving import free_port

METRICS = "v1beta1.external.metrics.k8s.io"
SERVICE = "keda-metrics-apiserver"


@contextlib.contextmanager
def running_keda(server: ApiServer, folder: Path) -> Iterator[None]:
    install(server, KEDA_CONTROLLER)
    namespace = server.namespace()
    certificates = folder / "certs"
    _, authority = certified(certificates)
    shutil.copy(authority, certificates / "tls.crt")
    environment = {"WATCH_NAMESPACE": "", "POD_NAMESPACE": namespace, "KEDA_CLUSTER_OBJECT_NAMESPACE": namespace}
    grpc = free_port()
    with (
        _operator(server, folder, grpc, environment),
        _adapter(server, folder, grpc, environment) as adapter,
        _served(server, namespace, adapter),
        _webhooks(server, folder),
    ):
        yield
        # While it is there to let go of them.
        remove(server, KEDA_CONTROLLER)


@contextlib.contextmanager
def _operator(server: ApiServer, folder: Path, grpc: int, environment: dict[str, str]) -> Iterator[None]:
    health = free_port()
    arguments = [
        f"--cert-dir={folder / 'certs'}",
        f"--metrics-service-bind-address=127.0.0.1:{grpc}",
        f"--health-probe-bind-address=127.0.0.1:{health}",
        f"--metrics-bind-address=127.0.0.1:{free_port()}",
    ]
    healthy = f"http://127.0.0.1:{health}/readyz"
    with running(server, "keda-operator", arguments, folder, healthy, environment):
        yield


@contextlib.contextmanager
def _adapter(server: ApiServer, folder: Path, grpc: int, environment: dict[str, str]) -> Iterator[int]:
    """Its port."""
    port, certificates = free_port(), folder / "certs"
    arguments = [
        f"--secure-port={port}",
        f"--port={free_port()}",
        f"--metrics-service-address=127.0.0.1:{grpc}",
        f"--cert-dir={certificates}",
        f"--tls-cert-file={certificates}/tls.crt",
        f"--tls-private-key-file={certificates}/tls.key",
        *(f"--{what}-kubeconfig={server.kubeconfig}" for what in ("authentication", "authorization", "lister")),
    ]
    with running(server, "keda-adapter", arguments, folder, f"https://127.0.0.1:{port}/readyz", environment):
        yield port


@contextlib.contextmanager
def _served(server: ApiServer, namespace: str, port: int) -> Iterator[None]:
    """As external.metrics.k8s.io, which the controller of HorizontalPodAutoscalers asks."""
    ports = [{"name": "https", "port": 443, "targetPort": port}]
    made = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}, "spec": {"ports": ports}}
    server.create(made, namespace)
    server.create(endpoints(SERVICE, server.layout.node_ip, port, "https"), namespace)
    spec = {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "service": {"name": SERVICE, "namespace": namespace},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": METRICS}}
    server.create(service | {"spec": spec})
    try:
        wait_for("external metrics", lambda: server.client.get("/apis/external.metrics.k8s.io/v1beta1").is_success)
        yield
    finally:
        server.request("DELETE", path("APIService", name=METRICS))


@contextlib.contextmanager
def _webhooks(server: ApiServer, folder: Path) -> Iterator[None]:
    port, health, certificates = free_port(), free_port(), folder / "certs"
    arguments = [
        f"--port={port}",
        f"--cert-dir={certificates}",
        f"--health-probe-bind-address=127.0.0.1:{health}",
        f"--metrics-bind-address=127.0.0.1:{free_port()}",
    ]
    configuration = source(KEDA_CONTROLLER) / "config" / "webhooks" / "validation_webhooks.yaml"
    with (
        running(server, "keda-webhooks", arguments, folder, f"http://127.0.0.1:{health}/readyz"),
        asked(server, configuration, port, certificates / "ca.crt"),
    ):
        yield
