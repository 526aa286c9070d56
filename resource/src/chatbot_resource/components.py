"""The `images` and `components` parts of the resource: what runs, how often, and how much of a node it gets."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from chatbot_resource.cel import Rule, rules, value_or
from chatbot_resource.fields import Image, Model, Quantity, amount

Service = Literal["gateway", "auth", "chat", "conversation"]
SERVICES: tuple[Service, ...] = ("gateway", "auth", "chat", "conversation")

DRAIN_SECONDS = 120


class Images(Model):
    """Full image references that replace the operator's own; digests are welcome."""

    gateway: Image | None = None
    auth: Image | None = None
    chat: Image | None = None
    conversation: Image | None = None
    postgres: Image | None = None
    redis: Image | None = None
    weaviate: Image | None = None


class Amounts(Model):
    """Quantities as Kubernetes writes them: `250m` or `1` of cpu, `512Mi` of memory."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


def _within_limit(resource: str) -> Rule:
    both = f"has(self.requests) && has(self.limits) && has(self.requests.{resource}) && has(self.limits.{resource})"
    request, limit = (f"quantity(string(self.{part}.{resource}))" for part in ("requests", "limits"))
    return Rule(f"!({both}) || {request}.compareTo({limit}) <= 0", f"requests.{resource} must not exceed its limit")


class Resources(Model):
    """What each pod asks for and may use. Unset keys depend on the profile."""

    model_config = ConfigDict(json_schema_extra=rules(_within_limit("cpu"), _within_limit("memory")))

    requests: Amounts = Amounts()
    limits: Amounts = Amounts()

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        for name in ("cpu", "memory"):
            request, limit = getattr(self.requests, name), getattr(self.limits, name)
            if request and limit and amount(request) > amount(limit):
                raise ValueError(f"requests.{name} must not exceed its limit")
        return self


class Replicas(Model):
    """How many pods. `HPA` scales between two bounds on CPU; `Fixed` needs `replicas`. Unset depends on the profile."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "(has(self.mode) && self.mode == 'Fixed') == has(self.replicas)",
                "replicas is for mode Fixed, and Fixed needs it",
            ),
            Rule(
                "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas must not exceed maxReplicas",
            ),
        )
    )

    mode: Literal["Fixed", "HPA"] | None = None
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    min_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    max_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mode == "Fixed") != (self.replicas is not None):
            raise ValueError("replicas is for mode Fixed, and Fixed needs it")
        if self.min_replicas and self.max_replicas and self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not exceed maxReplicas")
        return self


class Component(Model):
    """One service of the platform."""

    scaling: Replicas = Replicas()
    resources: Resources = Resources()
    drain_seconds: Annotated[
        int, Field(ge=1, le=3600, description="How long a pod that is to end may finish what it is doing, in seconds.")
    ] = DRAIN_SECONDS


class Components(Model):
    """The four services, each of the same type."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"{value_or('gateway.drainSeconds', str(DRAIN_SECONDS))}"
                f" >= {value_or('chat.drainSeconds', str(DRAIN_SECONDS))}",
                "gateway.drainSeconds must be at least chat.drainSeconds: it relays chat's streams",
            )
        )
    )

    gateway: Component = Component()
    auth: Component = Component()
    chat: Component = Component()
    conversation: Annotated[
        Component, Field(description="Serves conversations and knowledge; its worker gets the same resources.")
    ] = Component()

    @model_validator(mode="after")
    def _gateway_outlives_chat(self) -> Self:
        if self.gateway.drain_seconds < self.chat.drain_seconds:
            raise ValueError("gateway.drainSeconds must be at least chat.drainSeconds: it relays chat's streams")
        return self
