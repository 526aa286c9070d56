"""From pydantic's JSON schema to the structural schema of a CustomResourceDefinition.

What cannot be said there is an error here, so that no rule is lost on the way. Defaults: a value's static default is
written, so that `kubectl explain` and a stored object show it. An object's is not: the API server judges it against the
rules before it has filled in the values below it. Rules therefore expect that any object may be missing.
"""

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_KEPT = {
    "additionalProperties",
    "default",
    "description",
    "enum",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
}
_DROPPED = {"$defs", "title"}
_NUMBER_OR_TEXT = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


class NotStructural(Exception):
    """A model says something that a structural schema cannot."""


def structural(model: type[BaseModel]) -> Schema:
    """Schema of a model for a CustomResourceDefinition. Raises `NotStructural`."""
    schema = model.model_json_schema(by_alias=True)
    return _convert(schema, schema.get("$defs", {}), (model.__name__,))


def _convert(schema: Schema, known: dict[str, Schema], path: tuple[str, ...]) -> Schema:
    """One schema without references. `path` names the models and fields on the way, to find recursion and mistakes."""
    schema = _single(schema, path)
    if reference := schema.pop("$ref", None):
        name = reference.removeprefix("#/$defs/")
        if name in path:
            raise NotStructural(f"{'.'.join(path)}: {name} holds itself")
        return _convert(known[name] | schema, known, (*path, name))
    if (values := _values(schema)) is not None:
        schema["additionalProperties"] = _convert(values, known, (*path, "values"))
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    number_or_text = schema.get("type") == ["integer", "string"]
    if unknown := set(schema) - _KEPT - _DROPPED:
        raise NotStructural(f"{'.'.join(path)}: {', '.join(sorted(unknown))}")
    kept = {key: value for key, value in schema.items() if key in _KEPT and not _no_default(key, value)}
    if number_or_text:
        kept = {key: value for key, value in kept.items() if key != "type"} | _NUMBER_OR_TEXT
    if "items" in kept:
        kept["items"] = _convert(kept["items"], known, (*path, "items"))
    if "properties" in kept:
        kept["properties"] = {name: _convert(value, known, (*path, name)) for name, value in kept["properties"].items()}
    return _bounded(kept, path)


def _single(schema: Schema, path: tuple[str, ...]) -> Schema:
    """`X | None` as X: the API server removes a null before it looks."""
    schema = dict(schema)
    alternatives = [item for item in schema.pop("anyOf", []) if item != {"type": "null"}]
    if len(alternatives) > 1:
        raise NotStructural(f"{'.'.join(path)}: a choice between {len(alternatives)} kinds of value")
    return (alternatives[0] if alternatives else {}) | schema


def _values(schema: Schema) -> Schema | None:
    """Of a map, the schema of its values; removes what says so. The keys' own pattern cannot be said."""
    schema.pop("propertyNames", None)
    patterns = schema.pop("patternProperties", None)
    more = schema.pop("additionalProperties", None)
    if patterns:
        (values,) = patterns.values()
        return dict(values)
    return dict(more) if isinstance(more, dict) else None


def _no_default(key: str, value: Any) -> bool:
    return key == "default" and (value is None or isinstance(value, dict))


def _bounded(schema: Schema, path: tuple[str, ...]) -> Schema:
    """Without bounds the API server prices each rule as if texts and lists were as long as a request allows."""
    needed = {"string": "maxLength", "array": "maxItems"}.get(schema.get("type", ""))
    if "additionalProperties" in schema:
        needed = "maxProperties"
    if needed and needed not in schema and "enum" not in schema:
        raise NotStructural(f"{'.'.join(path)}: {needed} is missing")
    return schema
