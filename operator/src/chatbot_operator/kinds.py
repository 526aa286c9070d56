"""The kinds the operator reads and writes, and where the API server has them.

Known beforehand instead of discovered: it costs no request at the start, needs no cache, and cannot be out of date.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from chatbot_resource.model import API_VERSION, KIND

from chatbot_operator import names
from chatbot_operator.components import metadata

DISK = "PersistentVolumeClaim"
"""Made by a StatefulSet, deleted by nobody but its retention policy or a person. We write its size; see disks.py."""
WRITTEN: Mapping[str, str] = {kind: version for kind, version in metadata.API_VERSIONS.items() if kind != DISK}
OPTIONAL: Mapping[str, str] = metadata.OPTIONAL
"""Kinds we write where the cluster has them, see apis.py."""
CUSTOM_METRICS = "custom.metrics.k8s.io"
GROUPS = (CUSTOM_METRICS,)
"""APIs that others ask on our behalf, where the cluster has them: we neither read nor write anything there."""
AUTOSCALERS = ("ScaledObject", "HorizontalPodAutoscaler")
MAKERS = ("ScaledObject",)
"""Kinds whose controllers make something of them that goes first: KEDA's HorizontalPodAutoscaler would act on."""
CHILDREN = (*WRITTEN, "ReplicaSet", DISK)
"""Kinds of `Observed.children`, and besides them those of `OPTIONAL` that are there."""
API_VERSIONS: Mapping[str, str] = {
    KIND: API_VERSION,
    **metadata.API_VERSIONS,
    **metadata.OPTIONAL,
    "ReplicaSet": "apps/v1",
    "Pod": "v1",
    "Event": "v1",
    "Lease": "coordination.k8s.io/v1",
}

IRREGULAR: Mapping[str, str] = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}

OURS = f"{names.MANAGED_BY}={names.FIELD_MANAGER}"
"""Label selector of what we write."""
PLATFORMS = names.BOT
"""Label selector of what others make from what we write: ReplicaSets and pods."""

REFERENCED = f"{names.REFERENCED}=true"
WATCHED: Mapping[str, str] = {
    **dict.fromkeys(WRITTEN, OURS),
    "Pod": PLATFORMS,
    DISK: PLATFORMS,
    # KEDA makes one of each ScaledObject, with its labels: it knows best why it does not scale.
    "HorizontalPodAutoscaler": PLATFORMS,
    # One selector has to find both ours and the users': ours carry the label too.
    "Secret": REFERENCED,
    "ConfigMap": REFERENCED,
}
"""Kinds whose events matter, and the label selector they are watched by."""


def watched(apis: Iterable[str]) -> dict[str, str]:
    """The same with the optional kinds that are there."""
    return {**WATCHED, **dict.fromkeys(optional(apis), OURS)}


def optional(apis: Iterable[str]) -> list[str]:
    """The kinds among the APIs that are there."""
    return sorted(OPTIONAL.keys() & set(apis))


def plural(kind: str) -> str:
    """Name of a kind in paths and in RBAC."""
    return IRREGULAR.get(kind) or f"{kind.lower()}s"


def group_and_version(kind: str) -> tuple[str, str]:
    """`("", "v1")` for the core group."""
    group, _, version = API_VERSIONS[kind].rpartition("/")
    return group, version


def path(kind: str, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
    """URL path of a kind, of one object, or of a part of it. Without a namespace: in the whole cluster."""
    group, version = group_and_version(kind)
    parts = ["apis", group, version] if group else ["api", version]
    parts += ["namespaces", namespace, plural(kind)] if namespace else [plural(kind)]
    # Quoted, so that a name never leads out of its namespace.
    return "/" + "/".join(quote(part, safe="") for part in [*parts, *filter(None, (name, subresource))])


def bots_selector(bot: str, kind: str) -> str:
    """Label selector of what belongs to one resource."""
    mine = OURS if kind in OPTIONAL or (kind in WRITTEN and WATCHED[kind] != PLATFORMS) else PLATFORMS
    return f"{mine},{names.BOT}={bot}"
