"""How much of a node each store gets, by profile. Components have sizes of their own in the resource."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbot_resource.model import Spec

from chatbot_operator.names import Store
from chatbot_operator.world import Manifest


@dataclass(frozen=True)
class Size:
    cpu: str
    """Requested; never limited, since a throttled store slows everybody down."""
    memory: str
    memory_limit: str
    disk: str
    budget: str = ""
    """What the store itself may use of its memory, in its own notation."""

    @property
    def resources(self) -> Manifest:
        return {"requests": {"cpu": self.cpu, "memory": self.memory}, "limits": {"memory": self.memory_limit}}


DEV: Mapping[Store, Size] = {
    "postgres": Size("50m", "64Mi", "512Mi", "1Gi"),
    "redis": Size("25m", "32Mi", "256Mi", "512Mi", "128mb"),
    "weaviate": Size("50m", "128Mi", "1Gi", "1Gi", "900MiB"),
}
LARGER: Mapping[Store, Size] = {
    "postgres": Size("250m", "512Mi", "2Gi", "10Gi"),
    "redis": Size("100m", "256Mi", "1Gi", "2Gi", "512mb"),
    "weaviate": Size("250m", "1Gi", "4Gi", "10Gi", "3600MiB"),
}


def store_size(spec: Spec, store: Store) -> Size:
    return (DEV if spec.profile == "Dev" else LARGER)[store]
