"""The resource as typed, frozen models: what a user may write, and what unset fields become.

Field names and shapes are final: later versions only add. Some fields are read on a cluster only (scaling, external
stores, deletionPolicy); `chatbot up` says so of each that is written. Rules that span fields are checked here for the
command line and, generated from the same source, by the API server.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)

from chatbot_resource.budgets import Budgets
from chatbot_resource.cel import Rule, before, rules, value_or
from chatbot_resource.components import Components, Images
from chatbot_resource.crossing import CROSSING, POSTGRES_MODE, broken, with_crossing
from chatbot_resource.disks import disk_rules
from chatbot_resource.fields import (
    NAME_LENGTH,
    NAME_PATTERN,
    Duration,
    KeyRef,
    Model,
    Price,
    Ratio,
    ResourceName,
    Tag,
    Url,
    refuse,
    seconds,
)
from chatbot_resource.llm import Llm
from chatbot_resource.moderation import Moderation
from chatbot_resource.network import Exposure, Network
from chatbot_resource.scheduling import Defaults
from chatbot_resource.slo import Slo
from chatbot_resource.stores import Stores
from chatbot_resource.tools import Tools

GROUP = "chatbot-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ChatbotDeployment"

LOCAL_DIMENSIONS = 384
"""Of the bundled MiniLM."""

Profile = Literal["Dev", "Standard", "Production"]
Mode = Literal["Active", "Paused", "Hibernated"]
Switch = Literal["Auto", "Off"]


class Embeddings(Model):
    """How text becomes vectors. `Local` is the bundled MiniLM: 384 dimensions, no network."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.type != 'OpenAICompatible' || (has(self.baseURL) && has(self.model) && has(self.dimensions))",
                "embeddings of type OpenAICompatible need baseURL, model and dimensions: set all three",
            ),
            Rule(
                f"self.type != 'Local' || !has(self.dimensions) || self.dimensions == {LOCAL_DIMENSIONS}",
                f"embeddings of type Local have {LOCAL_DIMENSIONS} dimensions: leave dimensions out",
            ),
        )
    )

    type: Literal["Local", "OpenAICompatible"] = "Local"
    base_url: Annotated[Url | None, Field(alias="baseURL")] = None
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    dimensions: Annotated[int, Field(ge=8, le=4096)] | None = None
    api_key_secret_ref: KeyRef | None = None
    price: Annotated[
        Price | None,
        Field(description="Of a million tokens, in the currency of spec.llm.models[].prices: for /v1/embeddings."),
    ] = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.type == "OpenAICompatible" and not (self.base_url and self.model and self.dimensions):
            raise ValueError("embeddings of type OpenAICompatible need baseURL, model and dimensions: set all three")
        if self.type == "Local" and self.dimensions not in (None, LOCAL_DIMENSIONS):
            raise ValueError(
                f"embeddings of type Local have {LOCAL_DIMENSIONS} dimensions, not {self.dimensions}: leave them out"
            )
        return self


class Knowledge(Model):
    """Seed knowledge: a ConfigMap key that holds a YAML list of FAQs."""

    faq_ref: KeyRef | None = None


_OVERLAP = "signingKeys.overlap must be at least 1h and shorter than rotateEvery"


class SigningKeys(Model):
    """The keys that sign users' tokens: a new one is published, then signs, and the old one counts for `overlap`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "duration(self.overlap) >= duration('1h') && duration(self.overlap) < duration(self.rotateEvery)",
                _OVERLAP,
            )
        )
    )

    rotate_every: Duration = "720h"
    overlap: Duration = "24h"

    @model_validator(mode="after")
    def _overlapping(self) -> Self:
        if not 3600 <= seconds(self.overlap) < seconds(self.rotate_every):
            raise ValueError(_OVERLAP)
        return self


class Auth(Model):
    """Who may have an account: with signup `Open` anyone who reaches the gateway can make one."""

    signup: Literal["Open", "Closed"] = "Open"
    signing_keys: SigningKeys = SigningKeys()


class Limits(Model):
    """Requests a user or, before sign-in, an address may make. Held across all replicas."""

    per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    per_hour: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    per_day: Annotated[int, Field(ge=1, le=100_000_000)] = 10_000


class Otlp(Model):
    """Where traces go: the base address of an OTLP/HTTP receiver."""

    endpoint: Url


class Telemetry(Model):
    """Traces, and what is made for Prometheus and Grafana. Metrics are always there to be scraped."""

    otlp: Otlp | None = None
    prometheus_url: Annotated[
        Url | None,
        Field(
            alias="prometheusURL",
            description="Base address of the Prometheus that scrapes the pods: KEDA asks it for inFlightStreams.",
        ),
    ] = None
    sample_ratio: Annotated[
        Ratio | None, Field(description="Share of traces kept; default 1 with profile Dev, else 0.1.")
    ] = None
    monitors: Annotated[
        Switch,
        Field(
            description="Auto: a PodMonitor scrapes every pod, where the cluster has that kind. Off: whoever scrapes "
            "instead gives each series the labels `namespace`, `bot` and `component`, by which rules and dashboard "
            "choose."
        ),
    ] = "Auto"
    rules: Annotated[
        Switch,
        Field(
            description="Auto: a PrometheusRule with alerts for `slo`, where the cluster has that kind. The alert "
            "for a component that is away needs the PodMonitor."
        ),
    ] = "Auto"
    dashboards: Annotated[
        Switch, Field(description="Auto: a dashboard for Grafana in a ConfigMap, where the cluster has PodMonitors.")
    ] = "Auto"


_DEADLINE = "rollout.deadline must be from 1s to 24h"


class Rollout(Model):
    """What becomes of a change that does not come to run."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("duration(self.deadline) >= duration('1s') && duration(self.deadline) <= duration('24h')", _DEADLINE)
        )
    )

    deadline: Annotated[Duration, Field(description="How long a rollout may make no progress.")] = "10m"
    auto_rollback: Annotated[
        bool, Field(description="Then go back to what ran before, and say so, until the resource is changed.")
    ] = True

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not 1 <= seconds(self.deadline) <= 86_400:
            raise ValueError(_DEADLINE)
        return self


_MODE = value_or("mode", "'Active'")


class Spec(Model):
    """Everything is optional: `spec: {}` is a bot that answers from its knowledge."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *(one.rule for one in CROSSING),
            # Here and not on the field: whoever removes the field and writes it again would pass a rule there.
            Rule(
                f"{POSTGRES_MODE} == {before(POSTGRES_MODE)}"
                f" || ({_MODE} == 'Hibernated' && {before(_MODE)} == 'Hibernated')",
                "stores.postgres.mode changes only while mode is Hibernated: set that first, in an edit of its own,"
                " as nothing may be written while the data is copied",
            ),
            *disk_rules(POSTGRES_MODE),
        )
    )

    profile: Annotated[
        Profile,
        Field(description="What unset fields become. Dev fits a small machine; Production refuses unsafe choices."),
    ] = "Standard"
    mode: Annotated[
        Mode,
        Field(
            description="Paused: the operator reports, and changes nothing. Hibernated: no pod runs, all data is kept."
        ),
    ] = "Active"
    version: Annotated[
        Tag | None, Field(description="Of the services, and the tag of their images; unset: the chart's `images.tag`.")
    ] = None
    images: Images = Images()
    defaults: Defaults = Defaults()
    components: Components = Components()
    llm: Llm = Llm()
    budgets: Budgets = Budgets()
    embeddings: Embeddings = Embeddings()
    tools: Tools = Tools()
    moderation: Moderation = Moderation()
    knowledge: Knowledge = Knowledge()
    stores: Stores = Stores()
    auth: Auth = Auth()
    exposure: Exposure = Exposure()
    network: Network = Network()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()
    slo: Slo = Slo()
    rollout: Rollout = Rollout()

    @model_validator(mode="wrap")
    @classmethod
    def _consistent(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """What is wrong with a field hides no rule between others: all mistakes are told at once."""
        try:
            made = handler(data)
        except ValidationError as error:
            raise with_crossing(error, data, handler) from None
        refuse(broken(made))
        return made


class Metadata(Model):
    """Kubernetes's own metadata; only what is read here, the rest passes."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: ResourceName
    namespace: str = "default"


class ChatbotDeployment(Model):
    """One team's chatbot. `status`, where a cluster has written one, is ignored."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"self.metadata.name.matches('{NAME_PATTERN}') && size(self.metadata.name) <= {NAME_LENGTH}",
                f"name must be at most {NAME_LENGTH} lower-case letters, digits and '-', starting with a letter:"
                " it begins the names of Services",
            )
        )
    )

    api_version: Literal["chatbot-operator.io/v1alpha1"]
    kind: Literal["ChatbotDeployment"]
    metadata: Metadata
    spec: Spec = Spec()
    status: Mapping[str, Any] | None = Field(default=None, exclude=True)

    @property
    def name(self) -> str:
        return self.metadata.name
