"""What the models tell the API server beside their shape: rules in CEL and keys of lists.

Each stands next to the Python validator it repeats; tests/resource/cases.py holds both to the same cases. In the JSON
schema they are ordinary extra keys, so that crd.py only has to pass them on.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A CEL expression that must hold. As an annotation (`Annotated[str, Rule(...)]`) it guards one field."""

    rule: str
    message: str
    field_path: str | None = None
    """Where the mistake is shown, from the model that has the rule; default there."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        return made | {VALIDATIONS: [*made.get(VALIDATIONS, []), self.as_dict()]}

    def as_dict(self) -> dict[str, str]:
        path = {"fieldPath": self.field_path} if self.field_path else {}
        return {"rule": self.rule, "message": self.message} | path


def rules(*given: Rule) -> dict[str, Any]:
    """`json_schema_extra` of a model that must satisfy `given`."""
    return {VALIDATIONS: [rule.as_dict() for rule in given]}


@dataclass(frozen=True)
class MapList:
    """A list whose items are told apart by one field: no two share it, and server-side apply merges by it."""

    key: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}


def value_or(path: str, default: str) -> str:
    """CEL for the value of a dotted path below `self`, or `default`, a CEL literal, where it is not written.

    Needed although fields have defaults: the API server fills them only into objects that are written.
    """
    return f"({written(path)} ? self.{path} : {default})"


def written(path: str) -> str:
    """CEL for whether a dotted path below `self` is written."""
    parts = path.split(".")
    return "(" + " && ".join(f"has(self.{'.'.join(parts[: count + 1])})" for count in range(len(parts))) + ")"


def before(rule: str) -> str:
    """The same of the object as it was, in a rule that compares it with what it is to be."""
    return rule.replace("self.", "oldSelf.")
