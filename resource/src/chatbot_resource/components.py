"""The `images` and `components` parts of the resource: what runs, how often, and how much of a node it gets."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from chatbot_resource.amounts import Resources
from chatbot_resource.cel import Rule, rules, value_or
from chatbot_resource.fields import Image, Model, refuse

Service = Literal["gateway", "auth", "chat", "conversation"]
SERVICES: tuple[Service, ...] = ("gateway", "auth", "chat", "conversation")

DRAIN_SECONDS = 120
HPA = "'HPA'"
"""In CEL."""


class Images(Model):
    """Full image references that replace the operator's own; digests are welcome."""

    gateway: Image | None = None
    auth: Image | None = None
    chat: Image | None = None
    conversation: Image | None = None
    postgres: Image | None = None
    redis: Image | None = None
    weaviate: Image | None = None


class Targets(Model):
    """What an autoscaler holds on average over the pods."""

    cpu_percent: Annotated[int, Field(ge=1, le=100, description="Of the cpu that a pod requests.")] = 70
    in_flight_streams: Annotated[
        int | None,
        Field(
            ge=1,
            le=100_000,
            description="Answers that are being streamed, per pod. HPA needs custom.metrics.k8s.io for it, KEDA "
            "telemetry.prometheusURL.",
        ),
    ] = None


class ScaleDown(Model):
    """How carefully pods are taken away."""

    stabilization_window_seconds: Annotated[
        int, Field(ge=0, le=3600, description="Load of this long ago still counts.")
    ] = 300


class Behavior(Model):
    """How fast an autoscaler follows the load."""

    scale_down: ScaleDown = ScaleDown()


_BOUNDS = "minReplicas and maxReplicas are for modes HPA and KEDA: remove them, or set mode to one of these"
_NONE_IS_KEDA = "minReplicas 0 needs mode KEDA: set mode to that, or minReplicas to at least 1"
_NONE_NEEDS_STREAMS = "minReplicas 0 needs targets.inFlightStreams: set it, as where no pod is no cpu calls for one"


class Scaling(Model):
    """How many pods, and who says so.

    `Fixed` needs `replicas`; with `HPA` Kubernetes's autoscaler chooses between two bounds; with `KEDA`, where it is
    installed, KEDA does, and may take all pods while nobody asks; with `External` the number is yours or your own
    autoscaler's (`kubectl scale`), and the operator never writes it. Unset depends on the profile.
    """

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "(has(self.mode) && self.mode == 'Fixed') == has(self.replicas)",
                "replicas is for mode Fixed, and Fixed needs it: set both, or neither",
            ),
            Rule(
                "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas must not exceed maxReplicas: raise maxReplicas, or lower minReplicas",
            ),
            Rule(
                "!has(self.mode) || self.mode in ['HPA', 'KEDA'] || !(has(self.minReplicas) || has(self.maxReplicas))",
                _BOUNDS,
            ),
            Rule(
                "!has(self.minReplicas) || self.minReplicas > 0 || (has(self.mode) && self.mode == 'KEDA')",
                _NONE_IS_KEDA,
            ),
            Rule(
                "!has(self.minReplicas) || self.minReplicas > 0"
                " || (has(self.targets) && has(self.targets.inFlightStreams))",
                _NONE_NEEDS_STREAMS,
            ),
        )
    )

    mode: Literal["Fixed", "HPA", "KEDA", "External"] | None = None
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    min_replicas: Annotated[
        int | None, Field(ge=0, le=1000, description="0 with KEDA alone, and never of the gateway.")
    ] = None
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    targets: Targets = Targets()
    behavior: Behavior = Behavior()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mode == "Fixed") != (self.replicas is not None):
            raise ValueError("replicas is for mode Fixed, and Fixed needs it: set both, or neither")
        if self.min_replicas and self.max_replicas and self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not exceed maxReplicas: raise maxReplicas, or lower minReplicas")
        if self.mode in ("Fixed", "External") and (self.min_replicas is not None or self.max_replicas):
            raise ValueError(_BOUNDS)
        if self.min_replicas == 0 and self.mode != "KEDA":
            raise ValueError(_NONE_IS_KEDA)
        if self.min_replicas == 0 and self.targets.in_flight_streams is None:
            raise ValueError(_NONE_NEEDS_STREAMS)
        return self


class Disruption(Model):
    """How many pods may be away at a time while nodes are emptied."""

    max_unavailable: Annotated[int, Field(ge=1, le=1000)] = 1


class Component(Model):
    """One service of the platform."""

    scaling: Scaling = Scaling()
    resources: Resources = Resources()
    drain_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="How long a pod that is to end may finish what it is doing, in seconds. Of chat it is also how "
            "long an answer may take, from its question on, less the 5 s that storing it may need.",
        ),
    ] = DRAIN_SECONDS
    pdb: Disruption = Disruption()


_ALWAYS_A_GATEWAY = "gateway.scaling.minReplicas must be at least 1: what asks it wakes the others"
_STREAMS_OF_PODS = (
    "targets.inFlightStreams with mode HPA is for chat: pods of the others do not count streams; use mode KEDA"
)
_OUTLIVES_CHAT = (
    "gateway.drainSeconds must be at least chat.drainSeconds, as it relays chat's streams: raise it, or lower chat's"
)
STREAMLESS: tuple[Service, ...] = ("gateway", "auth", "conversation")


class Components(Model):
    """The four services, each of the same type."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(f"{value_or('gateway.scaling.minReplicas', '1')} > 0", _ALWAYS_A_GATEWAY),
            *(
                Rule(
                    f"{value_or(f'{name}.scaling.targets.inFlightStreams', '0')} == 0"
                    f" || {value_or(f'{name}.scaling.mode', HPA)} != {HPA}",
                    _STREAMS_OF_PODS,
                    f".{name}.scaling.targets.inFlightStreams",
                )
                for name in STREAMLESS
            ),
            Rule(
                f"{value_or('gateway.drainSeconds', str(DRAIN_SECONDS))}"
                f" >= {value_or('chat.drainSeconds', str(DRAIN_SECONDS))}",
                _OUTLIVES_CHAT,
            ),
        )
    )

    gateway: Component = Component()
    auth: Component = Component()
    chat: Component = Component()
    conversation: Annotated[
        Component, Field(description="Serves conversations and knowledge; its worker gets the same resources.")
    ] = Component()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._mistakes())
        return self

    def _mistakes(self) -> Iterator[str]:
        if self.gateway.scaling.min_replicas == 0:
            yield _ALWAYS_A_GATEWAY
        found = (getattr(self, name).scaling for name in STREAMLESS)
        if any(scaling.targets.in_flight_streams and scaling.mode in (None, "HPA") for scaling in found):
            yield _STREAMS_OF_PODS
        if self.gateway.drain_seconds < self.chat.drain_seconds:
            yield _OUTLIVES_CHAT
