"""What an apply would change of one object: what the operator owns of it now, against what it wants. Pure.

As server-side apply does it: what is wanted becomes so, what was applied before and is no longer wanted goes, and what
others own is nobody's business here.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from chatbot_operator import names
from chatbot_operator.drift import MERGE_KEYS, differences, dropped
from chatbot_operator.world import Manifest
from chatbot_resource.fields import amount

HIDDEN = "(hidden)"
QUANTITIES = ("cpu", "memory", "storage", "ephemeral-storage")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|[MGTPEK]i?)?")
NOISE = ("uid", "annotations", "ownerReferences")
"""Parts of the metadata that are left out or written anew."""

Pair = tuple[Manifest, Manifest]


def pair(live: Manifest, wanted: Manifest) -> Pair:
    """What the operator owns of a live object, and what it would be: without noise and without anything secret."""
    before = _part(live, wanted, _owned(live))
    if (wanted.get("spec") or {}).get("replicas") is None and "replicas" in (before.get("spec") or {}):
        # Left to an autoscaler: the number stays, only its owner changes.
        before = before | {"spec": {key: value for key, value in before["spec"].items() if key != "replicas"}}
    return shown(before), shown(wanted)


def going(live: Manifest) -> Manifest:
    """What the operator owns of an object that is to be deleted."""
    head = {key: live[key] for key in ("apiVersion", "kind")}
    metadata = {key: live["metadata"][key] for key in ("name", "namespace")}
    return pair(live, head | {"metadata": metadata})[0]


def shown(item: Manifest) -> Manifest:
    """Without bookkeeping, and with the values of Secrets hidden."""
    metadata = {key: value for key, value in item["metadata"].items() if key not in NOISE}
    annotations = {
        key: value for key, value in (item["metadata"].get("annotations") or {}).items() if key != names.APPLIED_HASH
    }
    owners = [{"kind": one["kind"], "name": one["name"]} for one in item["metadata"].get("ownerReferences") or []]
    metadata |= {"annotations": annotations} if annotations else {}
    metadata |= {"ownerReferences": owners} if owners else {}
    return _without_secrets(item | {"metadata": metadata})


def text(item: Manifest) -> str:
    """As YAML, texts of several lines as such."""
    return yaml.dump(item, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _without_secrets(item: Manifest) -> Manifest:
    if item["kind"] != "Secret":
        return item
    kept = {key: value for key, value in item.items() if key not in ("data", "stringData")}
    return kept | ({"data": dict.fromkeys(sorted(item["data"]), HIDDEN)} if item.get("data") else {})


def _owned(live: Manifest) -> Mapping[str, Any]:
    """The `fieldsV1` of what the operator applied last."""
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply":
            found: Mapping[str, Any] = entry.get("fieldsV1") or {}
            return found
    return {}


def _part(live: Any, wanted: Any, owned: Mapping[str, Any]) -> Any:
    """The part of `live` that is wanted or owned, in the order of `wanted`."""
    if isinstance(live, Mapping) and (isinstance(wanted, Mapping) or owned):
        return _part_of_map(live, wanted if isinstance(wanted, Mapping) else {}, owned)
    if isinstance(live, list) and (isinstance(wanted, list) or owned):
        return _part_of_list(live, wanted if isinstance(wanted, list) else [], owned)
    return live


def _part_of_map(live: Mapping[str, Any], wanted: Mapping[str, Any], owned: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in [*wanted, *(key for key in live if key not in wanted and f"f:{key}" in owned)]:
        if key not in live:
            found |= {key: wanted[key]} if wanted[key] is None or dropped(wanted[key], key) else {}
        elif key in QUANTITIES and _same_amount(live[key], wanted.get(key)):
            found[key] = wanted[key]
        else:
            found[key] = _part(live[key], wanted.get(key), owned.get(f"f:{key}") or {})
    return found


def _part_of_list(live: list[Any], wanted: list[Any], owned: Mapping[str, Any]) -> list[Any]:
    key = _merge_key([*wanted, *live])
    if key is None:
        if len(live) != len(wanted):
            # Replaced as a whole; what is alike in both is to look alike.
            return [next((one for one in wanted if not any(differences(one, item))), item) for item in live]
        return [_part(one, other, {}) for one, other in zip(live, wanted, strict=True)]
    by_key = {str(item[key]): item for item in wanted}
    order = {name: index for index, name in enumerate(by_key)}
    fields = {str(item[key]): _fields_of(owned, item) for item in live}
    kept = [item for item in live if str(item[key]) in by_key or fields[str(item[key])] is not None]
    kept.sort(key=lambda item: order.get(str(item[key]), len(order)))
    return [_part(item, by_key.get(str(item[key])), fields[str(item[key])] or {}) for item in kept]


def _fields_of(owned: Mapping[str, Any], item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What is owned of an element; its key may be of several fields, as a port's is."""
    for name, below in owned.items():
        if name.startswith("k:") and all(item.get(key) == value for key, value in json.loads(name[2:]).items()):
            found: Mapping[str, Any] = below
            return found
    return None


def _merge_key(items: list[Any]) -> str | None:
    """The field by which the API server tells elements apart, if all have it."""
    if not items or not all(isinstance(item, Mapping) for item in items):
        return None
    return next((key for key in MERGE_KEYS if all(key in item for item in items)), None)


def _same_amount(one: Any, other: Any) -> bool:
    """The API server writes `0.5` as `500m`."""
    texts = (str(one), str(other))
    return all(NUMBER.fullmatch(item) for item in texts) and amount(texts[0]) == amount(texts[1])


class _Dumper(yaml.SafeDumper):
    """Without aliases; texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _as_block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _as_block)
