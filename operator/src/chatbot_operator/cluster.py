"""The only I/O with the API server: reads and writes, in manifests as plain dicts.

Everything that goes wrong is one of the errors of faults.py. Every write first asks whether this process may act.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient

from chatbot_operator import names
from chatbot_operator.clock import Clock
from chatbot_operator.faults import NotFound, Unavailable, translate
from chatbot_operator.kinds import API_VERSIONS, path
from chatbot_operator.versions import READ
from chatbot_operator.world import Manifest

TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
APPLY = "application/apply-patch+yaml"
JSON = "application/json"
MERGE = "application/merge-patch+json"
LEASE = "Lease"
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE = 500


def anyone() -> None:
    """The check of a process that needs no Lease, such as a test's."""


class Cluster:
    def __init__(self, client: ApiClient, check: Callable[[], None] = anyone, clock: Clock | None = None) -> None:
        self._client = DynamicClient(client)  # type: ignore[no-untyped-call]
        self.clock = clock or Clock()
        """Set by every answer."""
        self.check = check
        """Raises when this process may not write, see leader.py."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._request("get", path(kind, namespace, name))
        except NotFound:
            return None

    async def list(
        self, kind: str, namespace: str | None, selector: str = "", limit: int | None = None, fields: str = ""
    ) -> list[Manifest]:
        """Items with the kind and version that the API leaves out of lists.

        Args:
            fields: selector of fields, which each kind has others of.
        """
        found = await self._request(
            "get", path(kind, namespace), label_selector=selector or None, field_selector=fields or None, limit=limit
        )
        head = {"apiVersion": API_VERSIONS[kind], "kind": kind}
        return [head | item for item in found["items"]]

    async def each(
        self, kind: str, namespace: str | None, selector: str = "", *, whole: bool = False
    ) -> AsyncIterator[Manifest]:
        """All there are, page by page: for looking over many thousands.

        Args:
            whole: and not their `metadata` alone.
        """
        following: str | None = None
        while following != "":
            page = await self._request(
                "get",
                path(kind, namespace),
                label_selector=selector or None,
                limit=PAGE,
                _continue=following,
                header_params={"Accept": JSON if whole else METADATA},
            )
            for item in page["items"] or ():  # null where there is none
                yield item
            following = page["metadata"].get("continue") or ""

    async def serves(self, group: str) -> bool:
        """Whether there is any version of an API group. Anybody may ask."""
        try:
            await self._request("get", f"/apis/{group}")
        except NotFound:
            return False
        return True

    async def create(self, manifest: Manifest) -> Manifest:
        """Raises `AlreadyExists` rather than change anything."""
        kind, namespace, _ = identify(manifest)
        return await self._write("post", kind, path(kind, namespace), manifest, field_manager=names.FIELD_MANAGER)

    async def apply(self, manifest: Manifest, manager: str = names.FIELD_MANAGER) -> Manifest:
        """Server-side: makes or changes exactly what the manifest says, also against other managers."""
        kind, namespace, name = identify(manifest)
        return await self._write(
            "patch",
            kind,
            path(kind, namespace, name),
            manifest,
            content_type=APPLY,
            field_manager=manager,
            force_conflicts=True,
        )

    async def replace(self, manifest: Manifest) -> Manifest:
        """Only what still has the manifest's resourceVersion; else `Conflict`."""
        kind, namespace, name = identify(manifest)
        return await self._write("put", kind, path(kind, namespace, name), manifest, field_manager=names.FIELD_MANAGER)

    async def patch(
        self, kind: str, namespace: str, name: str, body: Manifest, subresource: str | None = None
    ) -> Manifest:
        """By JSON merge: maps are merged, lists replaced, null removes."""
        where = path(kind, namespace, name, subresource)
        return await self._write("patch", kind, where, body, content_type=MERGE, field_manager=names.FIELD_MANAGER)

    async def delete(self, live: Manifest, propagation: str = "Background") -> Manifest | None:
        """This very object, as it was read, and then what it owns. Gone already is fine, changed is a `Conflict`.

        An autoscaler changes whenever it measures: of that kind it is enough that it is this very object.

        Returns:
            What is left of it while somebody's finalizer holds it; None when it is gone.
        """
        kind, namespace, name = identify(live)
        metadata = live["metadata"]
        preconditions = {"uid": metadata["uid"]}
        if kind not in READ:
            preconditions["resourceVersion"] = metadata["resourceVersion"]
        body = {"preconditions": preconditions, "propagationPolicy": propagation}
        try:
            answer = await self._write("delete", kind, path(kind, namespace, name), body)
        except NotFound:
            return None
        return answer if answer.get("kind") == kind else None

    async def _write(self, method: str, kind: str, where: str, body: Manifest, **options: Any) -> Manifest:
        if kind != LEASE:
            self.check()
        return await self._request(method, where, body, **options)

    async def _request(self, method: str, where: str, body: Manifest | None = None, **options: Any) -> Manifest:
        sent = self.clock.sent()
        try:
            answer = await self._client.request(
                method, where, body=body, serialize=False, _request_timeout=TIMEOUT, **options
            )
            self.clock.heard(answer.headers.get("Date"), sent)
            found: Manifest = await answer.json()
        except ApiException as error:
            # Not chained: the client's own exception prints headers and bodies, which may hold what is secret.
            raise translate(error) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"no answer to {method} {where}: {error or type(error).__name__}") from error
        return found


def identify(manifest: Manifest) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["namespace"], metadata["name"]
