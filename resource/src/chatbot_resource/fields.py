"""What the resource's models are made of: the closed base model, and the kinds of text a field may hold."""

import functools
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from chatbot_resource.cel import Rule

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SUFFIXES: dict[str, Decimal] = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{prefix: Decimal(1000) ** power for power, prefix in enumerate("kMGTPE", start=1)},
    **{f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)},
}


def seconds(duration: str) -> float:
    """`1m30s` → 90.0."""
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)(ms|s|m|h)", duration))


@functools.lru_cache(maxsize=1024)
def amount(quantity: str) -> Decimal:
    """`250m` → 0.25, `1Gi` → 1073741824."""
    number, suffix = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", quantity).groups()  # type: ignore[union-attr] # by its type
    return Decimal(number) * _SUFFIXES[suffix]


def _positive(duration: str) -> str:
    if not seconds(duration):
        raise ValueError("must be longer than nothing, such as 10s")
    return duration


def _some(quantity: str) -> str:
    if not amount(quantity):
        raise ValueError("must be more than nothing, such as 10Gi")
    return quantity


def _prefix(key: str) -> str:
    """What a pattern cannot count."""
    if len(key.rpartition("/")[0]) > 253:
        raise ValueError("has more than 253 characters before '/'")
    return key


def _port(url: str) -> str:
    """What no client could open is refused here, not by the service that would make the client."""
    try:
        usable = urlsplit(url).port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not an address: a port is a number from 1 to 65535")
    return url


def _whole_as_text(value: Any) -> Any:
    """`cpu: 1` is what people write, and means "1"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_HOST = r"(\[[0-9A-Fa-f:.]+\]|[-A-Za-z0-9._]+)(:[0-9]{1,5})?"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|[MGTPE]i?)?$"

_CAN_BE_OPENED = Rule(
    "isURL(self) && (url(self).getPort() == '' || (int(url(self).getPort()) > 0 && int(url(self).getPort()) < 65536))",
    "must be an address that can be opened, such as https://host.example:8443; a port is from 1 to 65535",
)

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_LENGTH = 40
"""Of a resource: the names of its children are made by adding to it, and end at 63."""

# What Kubernetes allows; anything else, such as a slash, would lead to another object's address.
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
ResourceName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._:/]*[A-Za-z0-9])?$", max_length=128)]
Key = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
Url = Annotated[
    str,
    StringConstraints(
        pattern=rf"^https?://([-A-Za-z0-9._~!$&'()*+,;=:%]+@)?{_HOST}([/?#](%[0-9A-Fa-f][0-9A-Fa-f]|[!-$&-~])*)?$",
        max_length=2048,
    ),
    AfterValidator(_port),
    _CAN_BE_OPENED,
]
Origin = Annotated[
    str,
    StringConstraints(pattern=rf"^https?://{_HOST}$", max_length=300),
    AfterValidator(_port),
    _CAN_BE_OPENED,
]
Image = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/@]*$", max_length=512)]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
_DOMAIN = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*"
LabelKey = Annotated[
    str,
    StringConstraints(pattern=rf"^({_DOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$", max_length=317),
    AfterValidator(_prefix),
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Ratio = Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$", max_length=10)]
Price = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=20)]
Cost = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$", max_length=16)]
Duration = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9]+(ms|s|m|h))+$", max_length=20),
    AfterValidator(_positive),
    Rule("self.matches('[1-9]')", "must be longer than nothing, such as 10s"),
]
Quantity = Annotated[
    str,
    StringConstraints(pattern=_QUANTITY, max_length=32),
    BeforeValidator(_whole_as_text),
    WithJsonSchema({"type": ["integer", "string"], "pattern": _QUANTITY, "maxLength": 32, "minimum": 0}),
]
Size = Annotated[
    Quantity,
    AfterValidator(_some),
    Rule("quantity(string(self)).isGreaterThan(quantity('0'))", "must be more than nothing, such as 10Gi"),
]


_OURS = ("app.kubernetes.io/", "chatbot-operator.io/")


def _not_ours(given: dict[str, str]) -> dict[str, str]:
    if taken := [key for key in given if key.startswith(_OURS)]:
        raise ValueError(f"{taken[0]}: keys that begin with {' or '.join(_OURS)} are the operator's own: choose others")
    return given


_KEYS = Rule(
    "self.all(key, size(key) <= 317"
    " && !key.startsWith('app.kubernetes.io/') && !key.startsWith('chatbot-operator.io/'))",
    f"keys that begin with {' or '.join(_OURS)} are the operator's own: choose others",
)
Selection = Annotated[dict[LabelKey, LabelValue], Field(max_length=32)]
"""Labels that something must have."""
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=32), AfterValidator(_not_ours), _KEYS]
"""Labels that something is given."""
Annotations = Annotated[
    dict[LabelKey, Annotated[str, StringConstraints(max_length=4096)]],
    Field(max_length=32),
    AfterValidator(_not_ours),
    _KEYS,
]


class Model(BaseModel):
    """camelCase in YAML, snake_case here; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel, validate_by_name=True)


StoreT = TypeVar("StoreT", bound=Model)

EXTERNAL_IFF = Rule(
    "(has(self.mode) && self.mode == 'External') == has(self.external)",
    "external is for mode External, and External needs it: set both, or neither",
)


def external_iff(store: StoreT, mode: str, external: Model | None) -> StoreT:
    if (mode == "External") != (external is not None):
        raise ValueError("external is for mode External, and External needs it: set both, or neither")
    return store


def refuse(found: Iterable[str]) -> None:
    """All mistakes of one validator at once, a line each: mistakes.py tells them apart again."""
    if lines := list(found):
        raise ValueError("\n".join(lines))


def unique(what: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} has {name!r} twice")
        seen.add(name)
    return seen


class KeyRef(Model):
    """One key of a ConfigMap or Secret in the resource's own namespace."""

    name: ObjectName
    key: Key


class SecretRef(Model):
    """A whole Secret in the resource's own namespace."""

    name: ObjectName
