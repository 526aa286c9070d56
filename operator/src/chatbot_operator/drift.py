"""Whether a live object still says what we want of it. Pure; managed.py says who says otherwise.

The API server adds defaults, status and other managers' fields, so what we want is compared as a part of what is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import DecimalException
from typing import Any

from chatbot_resource.fields import amount


@dataclass(frozen=True)
class Item:
    """An element of a list that is known by one of its fields, such as the container named `chat`."""

    key: str
    value: str


Path = tuple[str | int | Item, ...]
"""The way to a field: keys of maps, keys or positions of list elements."""

AMOUNTS = (("requests",), ("limits",))
"""Maps of quantities."""
QUANTITIES = ("sizeLimit", "averageValue")

DROPPED = ("paused",)
"""Of a Deployment: the API server drops it where it is false."""

WHOLE = ("selector", "nodeSelector", "podSelector", "namespaceSelector", "labelSelector")
"""Maps that the API server takes as one value: a key more chooses other pods or nodes."""

MERGE_KEYS = ("uid", "mountPath", "name", "containerPort")
"""Fields by which the API server tells elements of a list apart. Others may add elements to such a list."""


Lost = Callable[[Path], bool]
"""Whether a list is another's now, who may have more in its elements than we want."""


def _never(_: Path) -> bool:
    return False


def differences(wanted: Any, live: Any, path: Path = (), *, whole: bool = False, lost: Lost = _never) -> Iterator[Path]:
    """Every field of `wanted` that `live` lacks or has differently.

    Args:
        whole: what only `live` has counts, too, as it does in selectors.
        lost: asked of lists that have more in them than is wanted; the API server's defaults are such, too.
    """
    if wanted == live or (live is None and dropped(wanted, path[-1] if path else "")):
        return
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            yield from differences(value, live.get(key), (*path, key), whole=whole or key in WHOLE, lost=lost)
        if whole:
            yield from ((*path, key) for key in live.keys() - wanted.keys())
    elif isinstance(wanted, list) and isinstance(live, list):
        found = list(_in_lists(wanted, live, path, whole, lost))
        yield from found or ([path] if lost(path) else [])
    elif not (_is_quantity(path) and _same_amount(wanted, live)):
        yield path


def dropped(wanted: Any, field: Item | str | int) -> bool:
    """Whether the API server leaves a field out that says this."""
    return wanted in ({}, [], "") or (wanted is False and field in DROPPED)


def show(path: Path) -> str:
    """As `spec.template.spec.containers[name=chat].image`."""
    text = ""
    for part in path:
        if isinstance(part, Item):
            text += f"[{part.key}={part.value}]"
        else:
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _is_quantity(path: Path) -> bool:
    """Fields that the API server writes in its own way: `1000m` becomes `1`."""
    return path[:1] == ("spec",) and (path[-1] in QUANTITIES or path[-2:-1] in AMOUNTS)


def _same_amount(wanted: Any, live: Any) -> bool:
    try:
        return amount(str(wanted)) == amount(str(live))
    except (AttributeError, KeyError, DecimalException):  # no quantity that a resource may hold
        return False


def _in_lists(wanted: list[Any], live: list[Any], path: Path, whole: bool, lost: Lost) -> Iterator[Path]:
    if key := _merge_key(wanted):
        found = {str(item.get(key)): item for item in live if isinstance(item, Mapping)}
        for item in wanted:
            name = str(item[key])
            yield from differences(item, found.get(name), (*path, Item(key, name)), whole=whole, lost=lost)
    elif len(wanted) != len(live):
        yield path
    else:
        for position, (one, other) in enumerate(zip(wanted, live, strict=True)):
            yield from differences(one, other, (*path, position), whole=whole, lost=lost)


def _merge_key(wanted: list[Any]) -> str | None:
    """The field that all elements have, each with another value."""
    if not all(isinstance(item, Mapping) for item in wanted):
        return None
    for key in MERGE_KEYS:
        values = [str(item.get(key)) for item in wanted if key in item]
        if wanted and len(values) == len(wanted) == len(set(values)):
            return key
    return None
