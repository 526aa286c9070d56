"""What Kopf tells us becomes keys in the queue, and nothing else. Kopf itself writes nothing.

Only `on.event`: Kopf's other handlers keep their progress in annotations and finalizers of the objects they watch.
Nothing is returned from a handler, because Kopf would write that into the object's status.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import kopf
from chatbot_resource.model import KIND

from chatbot_operator import names
from chatbot_operator.kinds import group_and_version, plural, watched
from chatbot_operator.known import Known
from chatbot_operator.queue import Key
from chatbot_operator.referrers import Referrers
from chatbot_operator.versions import version

WATCH_SECONDS = 240
"""A watch is begun anew after this long; the API server is asked to end it, and the client insists."""
DEAF_SECONDS = 70.0
"""Begun anew, too, when it has said nothing for so long: each minute the API server sends at least a bookmark."""
CHUNK = 500
DELETED = "DELETED"
EXIT_SECONDS = 20.0
"""Less than the grace period of the operator's pod."""


class Backoffs:
    """Seconds between Kopf's attempts at one request. After the last, Kopf would end the operator: so there is none.

    What cannot be watched for lack of a right is no reason to stop watching everything else.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0), itertools.repeat(20.0))


Enqueue = Callable[[Key], None]
Login = Callable[[], Awaitable[kopf.AiohttpSession]]


def registry(
    enqueue: Enqueue, referrers: Referrers, known: Known, login: Login, apis: Iterable[str] = ()
) -> kopf.OperatorRegistry:
    """Handlers for our own kind and for every kind a resource is made of. Of most they see the metadata alone."""
    handlers = kopf.OperatorRegistry()

    async def _seen(
        resource: kopf.Resource, meta: kopf.Meta, body: Mapping[str, Any], type: str | None, **_: Any
    ) -> None:
        namespace, uid = str(meta.namespace), str(meta.uid)
        kind = str(resource.kind)
        for key in keys(kind, namespace, str(meta.name), meta.labels, referrers):
            if known.news(key, kind, uid, version(kind, dict(body)), gone=type == DELETED):
                enqueue(key)

    @kopf.on.login(registry=handlers, errors=kopf.ErrorsMode.PERMANENT)
    async def _login(**_: Any) -> kopf.AiohttpSession:
        return await login()

    for kind in (KIND, *watched(apis)):
        kopf.on.event(*_address(kind), id=plural(kind), registry=handlers)(_seen)
    return handlers


def keys(kind: str, namespace: str, name: str, labels: Mapping[str, str], referrers: Referrers) -> set[Key]:
    """The resources that an object matters to: itself, the one it is a child of, and those that refer to it."""
    if kind == KIND:
        return {(namespace, name)}
    found = set(referrers.of((kind, namespace, name)))
    if instance := labels.get(names.BOT):
        found.add((namespace, instance))
    return found


def settings(apis: Iterable[str] = ()) -> kopf.OperatorSettings:
    """Kopf's own."""
    told = kopf.OperatorSettings()
    told.posting.enabled = False
    told.peering.standalone = True
    # Namespaces and definitions are not looked for, so that no rights in the whole cluster are needed.
    told.scanning.disabled = True
    # Never written, since no handler needs them; but if ever, then under names of ours. Kopf removes this finalizer.
    told.persistence.finalizer = f"{names.PREFIX}/watched"
    told.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"watched.{names.PREFIX}")
    told.persistence.diffbase_storage = _NoDiffs()
    told.process.ultimate_exiting_timeout = EXIT_SECONDS
    told.watching.server_timeout = WATCH_SECONDS
    told.watching.client_timeout = WATCH_SECONDS + 30
    told.watching.connect_timeout = 10
    told.watching.inactivity_timeout = DEAF_SECONDS
    told.watching.chunk_size = CHUNK
    told.networking.request_timeout = 60
    told.networking.connect_timeout = 10
    told.networking.error_backoffs = Backoffs()
    # Until then an object that was handled stays in memory, and after a start that is every object.
    told.queueing.idle_timeout = 0.1
    for kind, selector in watched(apis).items():
        told.watching.label_selectors[_address(kind)] = selector
    return told


class _NoDiffs(kopf.DiffBaseStorage):
    """Kopf compares each object with what it was, for handlers that we do not have: most of what an event costs."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        raise AssertionError("Kopf watches, and writes nothing")


def _address(kind: str) -> tuple[str, str, str]:
    group, version = group_and_version(kind)
    return group, version, plural(kind)
