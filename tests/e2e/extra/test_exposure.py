"""A bot behind a real Traefik, by Ingress and by HTTPRoute: its page over TLS, and an answer that streams.

WebSocket belongs here, too, as soon as the gateway has one.
"""

import asyncio
import contextlib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.extra.services import endpoints
from tests.e2e.extra.traefik import CLASS, GATEWAY_CLASS, INGRESS_CLASS, Traefik, gateway, running_traefik
from tests.gateway.test_process import Running, running
from tests.operator.conftest import world
from tests.operator.running import BOT, Run, World
from tests.support.apiserver import ApiServer, Object, playing_kubelet
from tests.support.balancer import balancing
from tests.support.doors import certified
from tests.support.identity import Keys
from tests.support.optional_apis import GATEWAY_CONTROLLER, install

__all__ = ["world"]
pytestmark = [pytest.mark.extra, pytest.mark.timeout(180)]

CERTIFICATE = "chat-tls"
WAYS: dict[str, dict[str, Any]] = {
    "Ingress": {"className": CLASS, "tlsSecretRef": {"name": CERTIFICATE}},
    "HTTPRoute": {"parentRefs": [{"name": "web"}]},
}


@pytest.fixture(scope="module")
def traefik(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traefik]:
    install(api_server, GATEWAY_CONTROLLER)
    for item in (INGRESS_CLASS, GATEWAY_CLASS):
        api_server.create(item)
    with running_traefik(api_server, tmp_path_factory.mktemp("traefik")) as process:
        yield process


@dataclass
class Outside:
    """The bot as people reach it."""

    client: httpx2.AsyncClient
    inside: Running
    run: Run

    async def until_routed(self) -> None:
        """Traefik takes up what has changed within seconds; until then it has another certificate."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx2.ConnectError):
                    if (await self.client.get("/")).status_code == 200:
                        return
                await asyncio.sleep(0.2)


@pytest.fixture(params=WAYS)
async def outside(
    request: pytest.FixtureRequest,
    world: World,
    traefik: Traefik,
    tmp_path: Path,
    keys: Keys,
    redis_url: str,
) -> AsyncIterator[Outside]:
    """A bot with a host name of its own, and a gateway process where its pods would be."""
    way = request.param
    host = f"{way.lower()}.example.com"
    context = certificate(world, tmp_path, host)
    world.api.create(gateway(traefik.port, CERTIFICATE), world.namespace)
    world.create_bot({"profile": "Dev", "exposure": {"type": way, "hostnames": [host]} | WAYS[way]})
    run = Run(world, lambda: frozenset({"HTTPRoute"}))
    (tmp_path / "gateway").mkdir()
    async with balancing("0.0.0.0") as pods, running(tmp_path / "gateway", keys, redis_url) as inside:  # noqa: S104
        pods.ports.append(inside.public.base_url.port or 0)
        world.api.create(endpoints(f"{BOT}-gateway", world.api.layout.node_ip, pods.port), world.namespace)
        with playing_kubelet(world.api, world.namespace):
            await run.until("Ready", "True")
            async with httpx2.AsyncClient(
                base_url=f"https://127.0.0.1:{traefik.port}", verify=context, headers={"Host": host}, timeout=20
            ) as client:
                client.event_hooks = {"request": [_named(host)]}
                yield Outside(client, inside, run)


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


async def test_leads_to_the_page_and_streams(outside: Outside, keys: Keys) -> None:
    told = await outside.run.until("RouteReady", "True", "RouteAdmitted")
    await outside.until_routed()
    page = await outside.client.get("/")
    assert told.url == f"https://{outside.client.headers['Host']}"
    assert "text/html" in page.headers["Content-Type"]
    async with outside.client.stream("GET", "/api/v1/chat/stream", headers=keys.bearer()) as answer:
        parts = answer.aiter_bytes()
        # The rest is not even written before this part has arrived.
        assert await anext(parts) == b"data: first\n\n"
        outside.inside.upstream.proceed.set()
        assert b"".join([part async for part in parts]) == b"data: second\n\n"
    # Under another name there is nothing.
    assert (await outside.client.get("/", headers={"Host": "other.example.com"})).status_code == 404
