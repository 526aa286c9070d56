"""A small client of the API server for the benchmark's own work: it must cost little, next to what it measures."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from localcluster.paths import Layout

Object = dict[str, Any]

JSON = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
LINE = 1 << 24
"""Bytes of the longest event that is read."""
AGAIN_SECONDS = 0.5


class Api:
    """The API server as its administrator. What it refuses is an `aiohttp.ClientResponseError` with its message."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = JSON, accept: str = JSON
    ) -> Object:
        headers = {"Accept": accept, "Content-Type": content_type}
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers=headers) as response:
            text = await response.text()
            if not response.ok:
                raise aiohttp.ClientResponseError(
                    response.request_info, response.history, status=response.status, message=text[:500]
                )
            found: Object = json.loads(text)
            return found

    async def answers(self, path: str) -> bool:
        try:
            await self.request("GET", path)
        except aiohttp.ClientError:
            return False
        return True

    async def watch(self, path: str, selector: str = "", metadata: bool = False) -> AsyncIterator[Object]:
        """Events from now on, without end; what is there already comes first, as `ADDED`."""
        asked = f"labelSelector={selector}&" if selector else ""
        since = ""
        while True:
            try:
                async for event in self._events(f"{path}?{asked}{since}", METADATA if metadata else JSON):
                    since = f"resourceVersion={event['object']['metadata']['resourceVersion']}&"
                    yield event
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                await asyncio.sleep(AGAIN_SECONDS)

    async def _events(self, path: str, accept: str) -> AsyncIterator[Object]:
        where = f"{path}watch=1&timeoutSeconds=3600"
        endless = aiohttp.ClientTimeout(total=None)
        async with self._session.get(where, headers={"Accept": accept}, timeout=endless) as response:
            response.raise_for_status()
            async for line in response.content:
                yield json.loads(line)


@asynccontextmanager
async def connected(layout: Layout) -> AsyncIterator[Api]:
    context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    connector = aiohttp.TCPConnector(ssl=context, limit=64)
    async with aiohttp.ClientSession(layout.server, connector=connector, read_bufsize=LINE) as session:
        yield Api(session)
