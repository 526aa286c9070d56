"""What the operator itself is told: one JSON file that the chart mounts, read once into a closed model."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from chatbot_resource.components import SERVICES
from pydantic import BaseModel, ConfigDict, Field, model_validator

SETTINGS_VARIABLE = "CHATBOT_OPERATOR_SETTINGS"


class ClosedModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(ClosedModel):
    """Full image references of what a resource gets unless it says otherwise."""

    gateway: str
    auth: str
    chat: str
    conversation: str
    postgres: str
    redis: str
    weaviate: str


class LeaseSettings(ClosedModel):
    """Times of leader election, in seconds. So long after its last renewal a leader is taken for dead."""

    namespace: str
    duration: Annotated[int, Field(ge=3, le=60)] = 15
    renew: Annotated[float, Field(gt=0, le=20)] = 5
    account: str = ""
    """The operator's ServiceAccount, which the chart's fencing policy asks who leads; empty: nothing is fenced."""

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        # The leader stops at two thirds, and an answer takes its time.
        if self.renew > self.duration / 2:
            raise ValueError("renew must be at most half of duration, or no leader lasts")
        return self


class Settings(ClosedModel):
    version: str
    """Of the platform that `images` hold; shown as a resource's version."""
    images: Images
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in each resource's own namespace, for all pods; one that is not there is passed over."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: the whole cluster, which needs a ClusterRole."""
    lease: LeaseSettings
    resync_seconds: Annotated[int, Field(ge=10)] = 600
    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """Resources reconciled at the same time."""
    probe_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    """/livez, /readyz and /metrics."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    monitor_labels: dict[str, str] = Field(default_factory=dict)
    """On PodMonitors and PrometheusRules: by which somebody's Prometheus selects them."""
    otlp_endpoint: str = ""
    """Base address of an OTLP/HTTP receiver for the operator's own traces; empty: none are made."""

    def at(self, version: str | None) -> Self:
        """The same for a resource that asks for another version: the tag of the services' images, never of a store's.

        An image that the chart names in full, such as by digest, has no other version that is known here: it is empty.
        """
        if version in (None, self.version):
            return self
        tagged: dict[str, str] = {}
        for service in SERVICES:
            image: str = getattr(self.images, service)
            known = image.endswith(f":{self.version}")
            tagged[service] = f"{image.removesuffix(self.version)}{version}" if known else ""
        return self.model_copy(update={"version": version, "images": self.images.model_copy(update=tagged)})

    @classmethod
    def load(cls) -> Self:
        """Raises: KeyError, OSError or pydantic.ValidationError, each naming what is wrong."""
        return cls.model_validate_json(Path(os.environ[SETTINGS_VARIABLE]).read_text(encoding="utf-8"))
