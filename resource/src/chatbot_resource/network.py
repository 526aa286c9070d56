"""The `network` and `exposure` parts of the resource: who may talk to whom, and how people get in."""

from ipaddress import ip_network
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from chatbot_resource.cel import Rule, rules
from chatbot_resource.fields import Model, Name, ObjectName, Origin, SecretRef, unique
from chatbot_resource.scheduling import LabelSelector


def _network(text: str) -> str:
    ip_network(text)
    return text


Cidr = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$", max_length=43),
    AfterValidator(_network),
    Rule(
        "isCIDR(self) && cidr(self).masked() == cidr(self)",
        "must be the address of a network with its length, such as 10.0.0.0/8",
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Hostname = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$", max_length=253
    ),
]


class IpBlock(Model):
    """Addresses, without some of them."""

    cidr: Cidr
    except_: Annotated[list[Cidr], Field(alias="except", max_length=16)] = Field(default_factory=list)


class Peer(Model):
    """As in a NetworkPolicy: addresses, or pods by labels of theirs and of their namespaces."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
                "a peer is either an ipBlock, or a podSelector, a namespaceSelector or both: make two peers of it",
            )
        )
    )

    ip_block: IpBlock | None = None
    namespace_selector: LabelSelector | None = None
    pod_selector: LabelSelector | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.ip_block is not None) == (self.pod_selector is not None or self.namespace_selector is not None):
            raise ValueError(
                "a peer is either an ipBlock, or a podSelector, a namespaceSelector or both: make two peers of it"
            )
        return self


class PolicyPort(Model):
    """A port, or with `endPort` all from the one to the other."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.endPort) || self.endPort >= self.port",
                "endPort must not be less than port: raise it, or remove it",
            )
        )
    )

    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    port: Port
    end_port: Port | None = None

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end_port is not None and self.end_port < self.port:
            raise ValueError("endPort must not be less than port: raise it, or remove it")
        return self


class Egress(Model):
    """What the services may reach: any of `to`, at any of `ports`; an empty list means all."""

    to: Annotated[list[Peer], Field(max_length=16)] = Field(default_factory=list)
    ports: Annotated[list[PolicyPort], Field(max_length=16)] = Field(default_factory=list)


class Network(Model):
    """NetworkPolicies: every pod may talk to those it needs, and to nobody else."""

    policy: Annotated[
        Literal["Enforce", "Off"],
        Field(description="Enforce needs a network that enforces NetworkPolicies; elsewhere they do nothing."),
    ] = "Enforce"
    egress: Annotated[
        list[Egress],
        Field(
            max_length=16,
            description=(
                "What gateway, auth, chat and conversation may reach besides the platform's own parts, DNS and the"
                " addresses that the resource names. Empty: chat alone reaches port 443 of public addresses."
            ),
        ),
    ] = Field(default_factory=list)
    metrics_from: Annotated[
        list[Peer],
        Field(
            max_length=16,
            description="Who may scrape metrics. Empty: pods labelled app.kubernetes.io/name=prometheus, anywhere.",
        ),
    ] = Field(default_factory=list)


class ParentRef(Model):
    """A Gateway, which often lives in another namespace."""

    name: ObjectName
    namespace: Name | None = None
    section_name: ObjectName | None = None
    port: Port | None = None


class Cors(Model):
    """Browsers' pages that may call the gateway besides its own."""

    allow_origins: list[Origin] = Field(default_factory=list, max_length=64)


_HOSTNAMES = "hostnames are for type Ingress or HTTPRoute, and both need at least one: set both, or neither"
_PARENTS = "parentRefs are for type HTTPRoute, and it needs at least one: name its Gateway, or remove them"
_CLASS = "className is for type Ingress: remove it, or set type to that"
_TLS = "tlsSecretRef is for type Ingress: remove it, as with HTTPRoute the Gateway ends TLS"


class Exposure(Model):
    """How the gateway is reached from outside. `None`: by port-forward, or by what you put before its Service."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "(has(self.type) && self.type != 'None') == (has(self.hostnames) && size(self.hostnames) > 0)",
                _HOSTNAMES,
            ),
            Rule(
                "(has(self.type) && self.type == 'HTTPRoute') == (has(self.parentRefs) && size(self.parentRefs) > 0)",
                _PARENTS,
            ),
            Rule("!has(self.className) || (has(self.type) && self.type == 'Ingress')", _CLASS),
            Rule("!has(self.tlsSecretRef) || (has(self.type) && self.type == 'Ingress')", _TLS),
        )
    )

    type: Literal["None", "Ingress", "HTTPRoute"] = "None"
    class_name: Annotated[ObjectName | None, Field(description="IngressClass; unset: the cluster's default.")] = None
    parent_refs: Annotated[list[ParentRef], Field(max_length=8)] = Field(default_factory=list)
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = Field(default_factory=list)
    tls_secret_ref: SecretRef | None = None
    trusted_proxies: Annotated[
        list[Cidr],
        Field(
            max_length=16,
            description=(
                "Proxies whose X-Forwarded-For is believed, so that limits count each client's own address. Unset: with"
                " type None nobody, else all private addresses, where ingress controllers and Gateways run."
            ),
        ),
    ] = Field(default_factory=list)
    cors: Cors = Cors()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type != "None") != bool(self.hostnames):
            raise ValueError(_HOSTNAMES)
        if (self.type == "HTTPRoute") != bool(self.parent_refs):
            raise ValueError(_PARENTS)
        if self.class_name is not None and self.type != "Ingress":
            raise ValueError(_CLASS)
        if self.tls_secret_ref is not None and self.type != "Ingress":
            raise ValueError(_TLS)
        unique("hostnames", self.hostnames)
        return self
