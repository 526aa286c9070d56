"""A real Traefik in front of a bot, as a process beside a bare API server.

It takes all it knows from the API: Ingresses, Gateways and routes, Services, Secrets, and the EndpointSlices that say
where pods are. There are no pods here, so a slice written by hand leads to a gateway that runs on this machine.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.extra.programs import running
from tests.support.apiserver import ApiServer, Object
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
QUIET_SECONDS = 10
"""After so much silence it gives up a connection that is nobody's socket; its default is three minutes."""
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
    secure, ping = free_port(), free_port()
    arguments = [
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        f"--entrypoints.websecure.address=127.0.0.1:{secure}",
        "--entrypoints.websecure.http.tls=true",
        f"--entrypoints.websecure.transport.respondingtimeouts.readtimeout={QUIET_SECONDS}s",
        f"--entrypoints.websecure.transport.respondingtimeouts.idletimeout={QUIET_SECONDS}s",
        f"--entrypoints.traefik.address=127.0.0.1:{ping}",
        "--ping=true",
        f"--providers.kubernetesingress.ingressendpoint.ip={ADDRESS}",
        f"--providers.kubernetesgateway.statusaddress.ip={ADDRESS}",
    ]
    with running(server, "traefik", arguments, folder, f"http://127.0.0.1:{ping}/ping") as log:
        yield Traefik(secure, log)


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
