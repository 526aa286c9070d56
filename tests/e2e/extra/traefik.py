"""A real Traefik in front of a bot, as a process beside a bare API server.

It takes all it knows from the API: Ingresses, Gateways and routes, Services, Secrets, and the EndpointSlices that say
where pods are. There are no pods here, so a slice written by hand leads to a gateway that runs on this machine.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from localcluster.paths import home

from tests.support.apiserver import ApiServer, Object, wait_for
from tests.support.serving import free_port

CLASS = "traefik"
ADDRESS = "203.0.113.1"
"""What it publishes as its own, as if there were a load balancer."""
INGRESS_CLASS: Object = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": CLASS},
    "spec": {"controller": "traefik.io/ingress-controller"},
}
GATEWAY_CLASS: Object = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": CLASS},
    "spec": {"controllerName": "traefik.io/gateway-controller"},
}


@dataclass(frozen=True)
class Traefik:
    port: int
    """Where it speaks TLS."""
    log: Path


@contextlib.contextmanager
def running_traefik(server: ApiServer, folder: Path) -> Iterator[Traefik]:
    """Skips the test where it was never built; fails it when CHATBOT_REQUIRE_CLUSTER is set."""
    program = home() / "bin" / "traefik"
    if not program.exists():
        reason = f"needs a real Traefik: it is not in {program.parent}, `make e2e-extra` builds it"
        pytest.fail(reason) if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip(reason)
    secure, ping = free_port(), free_port()
    command = [
        program,
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        f"--entrypoints.websecure.address=127.0.0.1:{secure}",
        "--entrypoints.websecure.http.tls=true",
        f"--entrypoints.traefik.address=127.0.0.1:{ping}",
        "--ping=true",
        f"--providers.kubernetesingress.ingressendpoint.ip={ADDRESS}",
        f"--providers.kubernetesgateway.statusaddress.ip={ADDRESS}",
    ]
    log = folder / "traefik.log"
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)  # noqa: S603 - our own build
    try:
        wait_for("Traefik", lambda: _pings(process, ping, log))
        yield Traefik(secure, log)
    finally:
        process.terminate()
        process.wait(20)


def _pings(process: "subprocess.Popen[bytes]", port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(f"http://127.0.0.1:{port}/ping").is_success
    return False


def gateway(port: int, certificate: str) -> Object:
    """What an administrator makes, and routes are attached to."""
    listener = {
        "name": "websecure",
        "port": port,
        "protocol": "HTTPS",
        "tls": {"mode": "Terminate", "certificateRefs": [{"name": certificate}]},
    }
    spec = {"gatewayClassName": CLASS, "listeners": [listener]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "web"},
        "spec": spec,
    }


def endpoints(service: str, address: str, port: int) -> Object:
    """Where the pods of a Service are said to be."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-here", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }
