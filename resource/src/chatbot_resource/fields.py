"""What the resource's models are made of: the closed base model, and the kinds of text a field may hold."""

import re
from collections.abc import Iterable
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """`1m30s` → 90.0."""
    return sum(float(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)(ms|s|m|h)", duration))


def _positive(duration: str) -> str:
    if not seconds(duration):
        raise ValueError("must be longer than nothing")
    return duration


def _address(url: str) -> str:
    """What no client could open is refused here, not by the service that would make the client."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("is not an address: write http(s)://host[:port][/path] in ASCII")
    return url


ResourceName = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._:/]*[A-Za-z0-9])?$", max_length=128)]
Key = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=2048), AfterValidator(_address)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
Ratio = Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$", max_length=10)]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+(ms|s|m|h))+$", max_length=20), AfterValidator(_positive)]


class Model(BaseModel):
    """camelCase in YAML, snake_case here; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel, validate_by_name=True)


StoreT = TypeVar("StoreT", bound=Model)


def external_iff(store: StoreT, mode: str, external: Model | None) -> StoreT:
    if (mode == "External") != (external is not None):
        raise ValueError("external is for mode External, and External needs it")
    return store


def unique(what: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} has {name!r} twice")
        seen.add(name)
    return seen


class KeyRef(Model):
    """One key of a ConfigMap or Secret in the resource's own namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    key: Key


class SecretRef(Model):
    """A whole Secret in the resource's own namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
