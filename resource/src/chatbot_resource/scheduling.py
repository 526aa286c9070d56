"""The `defaults` part of the resource: what every pod of the platform gets, and the shapes Kubernetes has for it.

`affinity` is spelled out in Kubernetes's own words instead of being passed through unseen: a field with a typing error
is refused when it is written, not ignored when pods are placed.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.amounts import Resources
from chatbot_resource.cel import MapList, Rule, rules
from chatbot_resource.fields import (
    Annotations,
    EnvName,
    LabelKey,
    Labels,
    LabelValue,
    Model,
    Name,
    ObjectName,
    Selection,
    unique,
)

Values = Annotated[list[LabelValue], Field(max_length=64)]
Weight = Annotated[int, Field(ge=1, le=100)]


_VALUES = "operators In and NotIn need values, Exists and DoesNotExist have none: add values, or remove them"
_NUMBER = "operators Gt and Lt need one value, a whole number such as '4'"


class Expression(Model):
    """`key` compared with `values`, as in every selector of Kubernetes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)", _VALUES)
        )
    )

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Values = Field(default_factory=list)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError(_VALUES)
        return self


class NodeExpression(Model):
    """The same for nodes, whose labels may also be numbers."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "(self.operator in ['In', 'NotIn', 'Gt', 'Lt']) == (has(self.values) && size(self.values) > 0)",
                _VALUES,
            ),
            Rule(
                "!(self.operator in ['Gt', 'Lt']) ||"
                " (has(self.values) && size(self.values) == 1 && self.values[0].matches('^[0-9]{1,18}$'))",
                _NUMBER,
            ),
        )
    )

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: Values = Field(default_factory=list)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.operator in ("In", "NotIn", "Gt", "Lt")) != bool(self.values):
            raise ValueError(_VALUES)
        if self.operator in ("Gt", "Lt") and not (
            len(self.values) == 1 and re.fullmatch("[0-9]{1,18}", self.values[0])
        ):
            raise ValueError(_NUMBER)
        return self


class LabelSelector(Model):
    """Pods or namespaces by their labels."""

    match_labels: Annotated[Selection, Field(description="Labels with exactly these values.")] = Field(
        default_factory=dict
    )
    match_expressions: Annotated[list[Expression], Field(max_length=16)] = Field(default_factory=list)


class NodeTerm(Model):
    """Nodes that satisfy all expressions."""

    match_expressions: Annotated[list[NodeExpression], Field(max_length=16)] = Field(default_factory=list)
    match_fields: Annotated[list[NodeExpression], Field(max_length=16)] = Field(default_factory=list)


class NodeSelection(Model):
    """Nodes that satisfy one of the terms."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=16)]


class PreferredNode(Model):
    """Nodes that are better than others, by how much."""

    weight: Weight
    preference: NodeTerm


class NodeAffinity(Model):
    """On which nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelection | None = None
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNode], Field(max_length=16)] = Field(
        default_factory=list
    )


class PodTerm(Model):
    """Pods that run in the same place, as `topologyKey` means it."""

    label_selector: LabelSelector | None = None
    topology_key: LabelKey
    namespaces: Annotated[list[Name], Field(max_length=16)] = Field(default_factory=list)
    namespace_selector: LabelSelector | None = None


class PreferredPod(Model):
    """Places that are better than others, by how much."""

    weight: Weight
    pod_affinity_term: PodTerm


class PodAffinity(Model):
    """Beside which pods, or away from which."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], Field(max_length=16)] = Field(
        default_factory=list
    )
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredPod], Field(max_length=16)] = Field(
        default_factory=list
    )


class Affinity(Model):
    """As in a pod."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


_ANY_KEY = "a toleration without key is for all taints: set operator to Exists, or name a key"
_NO_VALUE = "a toleration with operator Exists has no value: remove value, or set operator to Equal"
_EVICTED = "tolerationSeconds is for effect NoExecute: set effect to that, or remove it"


class Toleration(Model):
    """As in a pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("has(self.key) || (has(self.operator) && self.operator == 'Exists')", _ANY_KEY),
            Rule("!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''", _NO_VALUE),
            Rule("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')", _EVICTED),
        )
    )

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError(_ANY_KEY)
        if self.operator == "Exists" and self.value:
            raise ValueError(_NO_VALUE)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(_EVICTED)
        return self


class Spread(Model):
    """How evenly the pods of one component lie over places that differ in a label of their nodes."""

    topology_key: LabelKey
    max_skew: Annotated[int, Field(ge=1, le=100)] = 1
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = "ScheduleAnyway"


class EnvVar(Model):
    """An environment variable. Nothing secret: whoever may read the resource reads it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.name.startsWith('CHATBOT_')",
                "names that begin with CHATBOT_ are the operator's own: choose another",
            )
        )
    )

    name: EnvName
    value: Annotated[str, StringConstraints(max_length=4096)] = ""

    @model_validator(mode="after")
    def _not_ours(self) -> Self:
        if self.name.startswith("CHATBOT_"):
            raise ValueError("names that begin with CHATBOT_ are the operator's own: choose another")
        return self


class PullSecret(Model):
    """A Secret of type `kubernetes.io/dockerconfigjson` in the resource's namespace."""

    name: ObjectName


class Defaults(Model):
    """What every pod gets, the stores' and the migrations' too. A component's own `resources` win over these."""

    resources: Annotated[
        Resources, Field(description="Of components that have none of their own; stores have `stores.X.resources`.")
    ] = Resources()
    node_selector: Annotated[Selection, Field(description="Labels that a node must have.")] = Field(
        default_factory=dict
    )
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(default_factory=list)
    affinity: Affinity | None = None
    topology_spread: Annotated[
        list[Spread],
        MapList("topologyKey"),
        Field(max_length=8, description="Instead of the operator's own: even over hosts and zones, where possible."),
    ] = Field(default_factory=list)
    pod_labels: Annotated[Labels, Field(description="Besides the operator's own.")] = Field(default_factory=dict)
    pod_annotations: Annotated[Annotations, Field(description="Besides the operator's own.")] = Field(
        default_factory=dict
    )
    env: Annotated[
        list[EnvVar],
        MapList("name"),
        Field(max_length=64, description="For the services, such as the address of a proxy."),
    ] = Field(default_factory=list)
    image_pull_secrets: Annotated[list[PullSecret], MapList("name"), Field(max_length=16)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        unique("topologySpread", (item.topology_key for item in self.topology_spread))
        unique("env", (item.name for item in self.env))
        unique("imagePullSecrets", (item.name for item in self.image_pull_secrets))
        return self
