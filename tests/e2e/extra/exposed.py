"""A bot with a host name of its own behind a real Traefik, and the gateway process that is where its pods would be."""

import asyncio
import contextlib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.extra.services import endpoints
from tests.e2e.extra.traefik import CLASS, Traefik, gateway
from tests.gateway.test_process import Running, running
from tests.operator.running import BOT, Run, World
from tests.support.apiserver import Object, playing_kubelet
from tests.support.balancer import balancing
from tests.support.doors import certified
from tests.support.identity import Keys
from tests.support.patience import within

CERTIFICATE = "chat-tls"
WAYS: dict[str, dict[str, Any]] = {
    "Ingress": {"className": CLASS, "tlsSecretRef": {"name": CERTIFICATE}},
    "HTTPRoute": {"parentRefs": [{"name": "web"}]},
}


@dataclass
class Outside:
    """The bot as people reach it."""

    client: httpx2.AsyncClient
    host: str
    port: int
    trusting: ssl.SSLContext
    inside: Running
    run: Run

    async def until_routed(self) -> None:
        """Traefik takes up what has changed within seconds; until then it has another certificate."""
        async with within(30):
            while True:
                with contextlib.suppress(httpx2.ConnectError):
                    if (await self.client.get("/")).status_code == 200:
                        return
                await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def exposed(
    way: str, world: World, traefik: Traefik, folder: Path, keys: Keys, redis_url: str, **told: Any
) -> AsyncIterator[Outside]:
    """
    Args:
        way: one of `WAYS`.
        told: what the gateway is told otherwise.
    """
    # Nobody else has it: what an earlier test has made may still be there.
    host = f"{world.namespace}.example.com"
    context = certificate(world, folder, host)
    world.api.create(gateway(traefik.port, CERTIFICATE), world.namespace)
    world.create_bot({"profile": "Dev", "exposure": {"type": way, "hostnames": [host]} | WAYS[way]})
    run = Run(world, lambda: frozenset({"HTTPRoute"}))
    (folder / "gateway").mkdir()
    async with balancing("0.0.0.0") as pods, running(folder / "gateway", keys, redis_url, **told) as inside:  # noqa: S104
        pods.ports.append(inside.public.base_url.port or 0)
        world.api.create(endpoints(f"{BOT}-gateway", world.api.layout.node_ip, pods.port), world.namespace)
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            async with httpx2.AsyncClient(
                base_url=f"https://127.0.0.1:{traefik.port}", verify=context, headers={"Host": host}, timeout=20
            ) as client:
                client.event_hooks = {"request": [_named(host)]}
                yield Outside(client, host, traefik.port, context, inside, run)


def _named(host: str) -> Any:
    async def name(request: httpx2.Request) -> None:
        """As somebody would who has looked the name up."""
        request.extensions["sni_hostname"] = host

    return name


def certificate(world: World, folder: Path, host: str) -> ssl.SSLContext:
    """Put into the Secret that the resource names. What trusts it."""
    _, authority = certified(folder / "tls", host)
    pair = {"tls.crt": authority.read_bytes(), "tls.key": (folder / "tls" / "tls.key").read_bytes()}
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": CERTIFICATE},
        "data": {name: b64encode(value).decode() for name, value in pair.items()},
    }
    world.api.create(secret, world.namespace)
    return ssl.create_default_context(cafile=str(authority))
