"""What the operator sees and what it wants: the types that plan, status and cluster share."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from chatbot_resource.status import PostgresStatus

Manifest = dict[str, Any]
"""A Kubernetes object as the API takes and gives it."""

Name = tuple[str, str]
"""Kind and name of an object, in the resource's namespace."""

StepName = Literal[
    "secrets", "stores", "copy", "migrations", "conversation", "auth", "chat", "gateway", "monitoring", "revision"
]


@dataclass(frozen=True)
class Reference:
    """One key (or, with `key` None, all) of a Secret or ConfigMap that a user owns, in the resource's namespace."""

    kind: Literal["Secret", "ConfigMap"]
    name: str
    key: str | None = None
    optional: bool = False
    """Whether it may be left out: then what it would be for is done without."""


@dataclass(frozen=True)
class Answer:
    """What a pod that runs says of itself."""

    ready: bool
    """The cluster may be about to see it."""
    failing: Mapping[str, str]
    """Checks of stores that keep it from being ready, and the kind of the error."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Those of stores that it goes on without."""


@dataclass(frozen=True)
class Observed:
    """What the cluster holds for one resource at one moment."""

    children: tuple[Manifest, ...] = ()
    """Live objects that carry our labels and this resource's instance label, in every kind we write, and ReplicaSets.

    Secrets are here too, with `data` in base64 as the API gives it.
    """
    pods: tuple[Manifest, ...] = ()
    references: Mapping[Reference, str | None] = field(default_factory=dict)
    """Digest of what each reference of the resource points to; None when the object or the key is not there."""

    apis: frozenset[str] = frozenset()
    """Optional kinds that the cluster has, such as HTTPRoute, and groups, such as custom.metrics.k8s.io."""

    hosts: Mapping[str, str] = field(default_factory=dict)
    """Host names that an older resource has, and its namespace and name."""

    refused: Mapping[Name, str] = field(default_factory=dict)
    """StatefulSets and Jobs that lack a pod because the last one was refused, and pods that cannot begin: what was said
    of it."""
    data: PostgresStatus | None = None
    """Where the data of Postgres is, as the status last said; None: wherever the resource says."""

    answers: Mapping[str, Answer] = field(default_factory=dict)
    """By pod, of some that run and are not ready, or may lack a store all the same; see asking.py."""

    bad_faqs: str = ""
    """What is wrong with the FAQs that the resource refers to; empty: nothing, or they are not there."""

    written: Mapping[str, str] = field(default_factory=dict)
    """When the content of each Secret that the resource refers to was last written, RFC 3339, by its name."""

    at: str = ""
    """When it was looked at, RFC 3339; empty: long after anything in it came about."""

    def child(self, kind: str, name: str) -> Manifest | None:
        return self._named.get((kind, name))

    def having(self, written: Iterable[Manifest], gone: Collection[Name] = ()) -> "Observed":
        """The same after what was written and deleted since."""
        new = {_name(item): item for item in written}
        kept = [item for item in self.children if _name(item) not in new and _name(item) not in gone]
        return replace(self, children=(*kept, *new.values()))

    @cached_property
    def _named(self) -> Mapping[Name, Manifest]:
        return {_name(item): item for item in self.children}


def _name(item: Manifest) -> Name:
    return item["kind"], item["metadata"]["name"]


@dataclass(frozen=True)
class Blocked:
    """Why a step waits. `reason` is one of the documented reasons; `message` names the object and the next step."""

    reason: str
    message: str


@dataclass(frozen=True)
class Step:
    """One part of what should be. A blocked step is not applied, and what exists of it is kept as it is."""

    name: StepName
    manifests: tuple[Manifest, ...]
    blocked: Blocked | None = None
    anew: frozenset[Name] = frozenset()
    """Objects that go, although they are wanted, and are made anew when they are gone."""
