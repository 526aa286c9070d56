"""Who wrote which field of a live object, by its `managedFields`, and what of it stands in the way of ours. Pure.

An apply with force takes fields, but not what belongs to others *beside* them: an element of a list under another key,
or another field where only one of several may be. The API server then has both, or refuses both. When such fields are
ours by `managedFields`, the next apply, which does not have them, removes them.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from chatbot_operator import names
from chatbot_operator.drift import Item, Path, differences, show
from chatbot_operator.world import Manifest

Fields = dict[str, Any]
"""A `fieldsV1`: `f:` before the key of a map, `k:` before the keys of a list's element, `.` for the map itself."""
Way = tuple[str, ...]
"""Keys of a `fieldsV1` that lead to a part of it."""
Found = Mapping[int, frozenset[Way]]
"""By the position of an entry of `managedFields`: what of it."""

REPLICAS: Way = ("f:spec", "f:replicas")
"""Never taken from whoever has it, see applying.py."""
HASH: Path = ("metadata", "annotations", names.APPLIED_HASH)
ANOTHER = "another chatbot-operator, whose watched namespaces must not be ours"
"""A release that goes by the same name as a manager of fields."""
SOMEBODY = ""
"""Who removed a field: the API server notes who wrote one, and keeps no note of who took it away."""
OURS = (names.FIELD_MANAGER, names.SCALE_MANAGER)


def strays(wanted: Manifest, live: Manifest, moved: Iterable[Path]) -> Found:
    """Elements of others that ours have become under another key: a port with another number, a container renamed."""
    moved = list(moved)
    return _found(wanted, live, lambda fields: {way for path in moved for way in _strays(fields, wanted, live, path)})


def rivals(wanted: Manifest, live: Manifest, moved: Iterable[Path], refused: Iterable[str]) -> Found:
    """What others have beside fields of ours that are missing or other than wanted, and we do not want there.

    Args:
        refused: fields that an apply was refused for, as the API server names them.
    """
    named = {_plain(field) for field in refused}
    named |= {_above(field) for field in named}
    places = {path[:-1] for path in moved if _plain(show(path[:-1])) in named}
    return _found(wanted, live, lambda fields: {way for path in places for way in _beside(fields, wanted, live, path)})


def managers(live: Manifest, found: Found) -> list[str]:
    return list(dict.fromkeys(str(live["metadata"]["managedFields"][position]["manager"]) for position in found))


def handed_over(wanted: Manifest, live: Manifest, found: Found) -> list[Manifest]:
    """`managedFields` in which what was found is ours."""
    entries = live["metadata"]["managedFields"]
    mine: Manifest = {"manager": names.FIELD_MANAGER, "operation": "Apply", "apiVersion": wanted["apiVersion"]}
    ours = next((entry for entry in entries if mine.items() <= entry.items() and "subresource" not in entry), None)
    ours = ours or {**mine, "fieldsType": "FieldsV1", "fieldsV1": {}}
    left, taken = [], dict(ours["fieldsV1"])
    for position, entry in enumerate(entries):
        fields = entry.get("fieldsV1") or {}
        for way in found.get(position, ()):
            part = _only(fields, way)
            taken = _joined(taken, part) if taken else part
            fields = _without(fields, way)
        if entry is not ours and (fields or position not in found):
            left.append(entry | {"fieldsV1": fields})
    return [*left, ours | {"fieldsV1": taken}]


def other_managers(live: Manifest, path: Path) -> list[str]:
    """Who, besides us, has last written a field; by name, the latest first."""
    entries = [entry for entry in _managed(live) if entry.get("manager") not in (names.FIELD_MANAGER,)]
    owning = [entry for entry in entries if owns(entry.get("fieldsV1") or {}, path)]
    owning.sort(key=lambda entry: str(entry.get("time", "")), reverse=True)
    return list(dict.fromkeys(str(entry["manager"]) for entry in owning))


def writers_of(live: Manifest, moved: Iterable[Path], *, hidden: bool) -> list[str]:
    """Who has written what moved.

    Args:
        hidden: our hash is not on it, so that somebody has, who may have left nothing but a gap.
    """
    found = [name for path in sorted(moved, key=show) for name in other_managers(live, path)]
    return found or ([_last_writer(live)] if hidden else [])


def _last_writer(live: Manifest) -> str:
    # Who scales writes one field through a subresource, and takes nothing off.
    others = [entry for entry in _managed(live) if entry.get("manager") not in OURS and "subresource" not in entry]
    ours = (entry.get("fieldsV1") or {} for entry in _managed(live) if entry.get("manager") == names.FIELD_MANAGER)
    if any(owns(fields, HASH) for fields in ours):
        return ANOTHER
    if not others:
        return SOMEBODY
    return str(max(others, key=lambda entry: str(entry.get("time", "")))["manager"])


def written_by_others(live: Manifest) -> bool:
    """Whether anybody but us has made it, or written more than its status or its number of pods."""
    return any(entry.get("manager") not in OURS for entry in _managed(live) if "subresource" not in entry)


def at(live: Manifest, path: Path) -> Any:
    """What is there; None: nothing."""
    found: Any = live
    for part in path:
        found = _part(found, part)
    return found


def we_own(live: Manifest, path: Path) -> bool:
    """Whether leaving the field out of the next apply would remove it."""
    return any(
        owns(entry.get("fieldsV1") or {}, path)
        for entry in _managed(live)
        if entry.get("manager") == names.FIELD_MANAGER and entry.get("operation") == "Apply"
    )


def lost(live: Manifest, path: Path) -> bool:
    """Whether others have made a list theirs that we applied: one that goes as a whole is held by who wrote it last.

    The API server's defaults in its elements are nobody's, and take it from nobody.
    """
    ours = [entry.get("fieldsV1") or {} for entry in _managed(live) if entry.get("manager") == names.FIELD_MANAGER]
    return bool(_managed(live)) and not any(owns(fields, path) for fields in ours)


def owns(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether a `fieldsV1` holds the field; a map or list held as a whole holds all in it."""
    node: Any = fields
    for part in path:
        below = _step(node, part)
        if below is None:
            return node is not fields and not set(node) - {"."}
        node = below
    return True


def _managed(live: Manifest) -> list[Manifest]:
    """All but who writes what was observed; replicas are often written through `scale`."""
    return [entry for entry in live["metadata"].get("managedFields") or [] if entry.get("subresource") != "status"]


def _step(node: Mapping[str, Any], part: str | int | Item) -> Any:
    if isinstance(part, Item):
        for name, below in node.items():
            if name.startswith("k:") and str(json.loads(name[2:]).get(part.key)) == part.value:
                return below
        return None
    return node.get(f"f:{part}")


def _found(wanted: Manifest, live: Manifest, look: Callable[[Fields], set[Way]]) -> Found:
    found = {
        position: frozenset(look(entry.get("fieldsV1") or {}) - {REPLICAS})
        for position, entry in enumerate(live["metadata"].get("managedFields") or [])
        # Who scales, and who writes what was observed, does so through a subresource. Another version of the API may
        # have other fields.
        if entry.get("manager") not in OURS
        and "subresource" not in entry
        and entry.get("apiVersion") == wanted["apiVersion"]
    }
    return {position: ways for position, ways in found.items() if ways}


def _strays(fields: Fields, wanted: Any, live: Any, path: Path) -> Iterator[Way]:
    if not (place := _place(fields, wanted, live, path[:-1])):
        return
    way, fields, wanted, live = place
    last = path[-1]
    if isinstance(last, Item):  # ours is missing
        mine = _part(wanted, last)
        for key, element in _elements(fields, live):
            other = {last.key, *_keys(key)}
            if not list(differences({name: mine[name] for name in mine.keys() - other}, element)):
                yield (*way, key)
    elif way and last in _keys(way[-1]):
        yield way


def _beside(fields: Fields, wanted: Any, live: Any, path: Path) -> Iterator[Way]:
    if place := _place(fields, wanted, live, path):
        way, fields, wanted, _ = place
        yield from ((*way, key) for key in fields if key.startswith("f:") and key[2:] not in wanted)


def _place(fields: Fields, wanted: Any, live: Any, path: Path) -> tuple[Way, Fields, Any, Any] | None:
    """A map or list: the way to it in a `fieldsV1`, and what is there of that, of what is wanted, and of what is."""
    way: Way = ()
    for part in path:
        wanted, live = _part(wanted, part), _part(live, part)
        if isinstance(part, str):
            key = f"f:{part}"
        else:
            key = next((key for key in fields if key.startswith("k:") and _is(key, live)), "")
        if key not in fields or live is None or wanted is None:
            return None
        way, fields = (*way, key), fields[key]
    return way, fields, wanted, live


def _part(value: Any, part: str | int | Item) -> Any:
    if isinstance(part, Item):
        return next((item for item in value or () if str(item.get(part.key)) == part.value), None)
    if isinstance(part, int):
        return value[part] if value and part < len(value) else None
    return value.get(part) if isinstance(value, Mapping) else None


def _elements(fields: Fields, live: Any) -> Iterator[tuple[str, Any]]:
    for key in fields:
        for element in live or ():
            if key.startswith("k:") and _is(key, element):
                yield key, element


def _keys(key: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(key[2:]) if key.startswith("k:") else {}
    return found


def _is(key: str, element: Any) -> bool:
    """Whether a key of a `fieldsV1` means this element of a list."""
    return isinstance(element, Mapping) and _keys(key).items() <= element.items()


def _plain(field: str) -> str:
    """Without the keys and positions of elements."""
    return re.sub(r"\[[^]]*]", "", field)


def _above(field: str) -> str:
    return field.rpartition(".")[0]


def _only(fields: Fields, way: Way) -> Fields:
    return {way[0]: _only(fields[way[0]], way[1:])} if way else fields


def _without(fields: Fields, way: Way) -> Fields:
    below = _without(fields[way[0]], way[1:]) if len(way) > 1 else {}
    rest = {key: value for key, value in fields.items() if key != way[0]}
    return rest | {way[0]: below} if below else rest


def _joined(one: Fields, other: Fields) -> Fields:
    """What is in either. Where one has a field as a whole, and the other a part of it, both remain."""
    if not one or not other:
        whole: Fields = {".": {}} if one or other else {}
        return whole | one | other
    shared = {key: _joined(one[key], other[key]) for key in one.keys() & other.keys()}
    return one | other | shared
