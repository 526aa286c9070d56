"""How much of a node each store gets: what the resource says, and by profile what it does not say."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbot_resource.fields import amount
from chatbot_resource.model import Spec
from chatbot_resource.profiles import resolve_disk, store_resources

from chatbot_operator.names import Store
from chatbot_operator.world import Manifest


@dataclass(frozen=True)
class Size:
    resources: Manifest
    disk: str
    disk_class: str | None = None
    budget: str = ""
    """What the store itself may use of its memory, in its own notation."""


def _resources(cpu: str, memory: str, limit: str) -> dict[str, dict[str, str]]:
    """cpu is never limited, since a throttled store slows everybody down."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}


DEV: Mapping[Store, dict[str, dict[str, str]]] = {
    "postgres": _resources("50m", "64Mi", "512Mi"),
    "redis": _resources("25m", "32Mi", "256Mi"),
    "weaviate": _resources("50m", "128Mi", "1Gi"),
}
LARGER: Mapping[Store, dict[str, dict[str, str]]] = {
    "postgres": _resources("250m", "512Mi", "2Gi"),
    "redis": _resources("100m", "256Mi", "1Gi"),
    "weaviate": _resources("250m", "1Gi", "4Gi"),
}


def postgres(spec: Spec) -> Size:
    told = spec.stores.postgres
    resources = store_resources(told.resources, _default(spec, "postgres"))
    return Size(resources, resolve_disk(spec, told.storage), told.storage.class_name)


def redis(spec: Spec) -> Size:
    """Its disk is scratch: it counts as the node's own storage."""
    small = spec.profile == "Dev"
    return Size(_default(spec, "redis"), "512Mi" if small else "2Gi", budget="128mb" if small else "512mb")


def weaviate(spec: Spec) -> Size:
    told = spec.stores.vectors
    resources = store_resources(told.resources, _default(spec, "weaviate"))
    # Go's collector then keeps below it by itself: the budget is nine tenths of the limit.
    budget = f"{int(amount(resources['limits']['memory']) * 9 / 10 / 2**20)}MiB"
    return Size(resources, resolve_disk(spec, told.storage), told.storage.class_name, budget)


def _default(spec: Spec, store: Store) -> dict[str, dict[str, str]]:
    return (DEV if spec.profile == "Dev" else LARGER)[store]
