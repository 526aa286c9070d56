"""What is wrong with a resource, in words for whoever wrote it: pydantic's errors with lines, fields and a way out."""

import datetime
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from chatbot_resource import fields
from chatbot_resource.lines import Document, Mistake, Path, dotted

_PATTERNS: dict[str, str] = {
    str(typing.get_args(kind)[1].pattern): text
    for kind, text in (
        (fields.ObjectName, "the name of a Kubernetes object: lower-case letters, digits, '-' and '.'"),
        (fields.ResourceName, "lower-case letters, digits and '-', starting with a letter"),
        (fields.Name, "lower-case letters, digits and '-'"),
        (fields.ModelName, "letters, digits and - . _ : /"),
        (fields.Key, "letters, digits and - . _"),
        (fields.Url, "an address in ASCII: http(s)://host[:port][/path]"),
        (fields.Origin, "an origin: http(s)://host[:port], no path and no wildcard"),
        (fields.Image, "an image such as example/name:1.0 or example/name@sha256:…"),
        (fields.Quantity, "a quantity such as 250m, 1 or 512Mi"),
        (fields.Language, "a language tag such as en or pt-BR"),
        (fields.Ratio, 'a number from 0 to 1 in quotes, such as "0.1"'),
        (fields.Price, 'an amount in quotes, such as "0.25"'),
        (fields.Cost, 'an amount in quotes, such as "2.50"'),
        (fields.Duration, "a duration such as 30s, 1m30s or 500ms"),
    )
}

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
}


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Mistake]:
    """All mistakes that validating `document` as `model` showed."""
    return [one for detail in error.errors(include_url=False) for one in _all(dict(detail), document, model)]


def did_you_mean(word: object, known: typing.Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    lower = {name.lower().replace("_", ""): name for name in known}
    close = difflib.get_close_matches(str(word).lower().replace("_", ""), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def kind_of(value: Any) -> str:
    """What a YAML value is, in words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case datetime.date():
            return "a date"
        case list():
            return "a list"
    return "a mapping"


def _all(detail: Mapping[str, Any], document: Document, model: type[BaseModel]) -> list[Mistake]:
    """One, or several that one validator has found: see fields.refuse."""
    path: Path = detail["loc"]
    line, name = document.line_of(path), dotted(path, document.data)
    return [Mistake(line, name, text) for text in _text(detail, path, model).split("\n")]


def _text(detail: Mapping[str, Any], path: Path, model: type[BaseModel]) -> str:
    kind, value, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(path, model)
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _choice(str(context["expected"]), value)
    if kind == "string_pattern_mismatch":
        return f"must be {_PATTERNS.get(context['pattern'], 'like ' + context['pattern'])}"
    if kind in _KINDS:
        return _wrong_kind(_KINDS[kind], value)
    return str(detail["msg"]).replace("Input should", "must").replace("should", "must")


def _unknown(path: Path, model: type[BaseModel]) -> str:
    known = _known(path[:-1], model)
    if suggestion := did_you_mean(path[-1], known):
        return f"unknown field; did you mean {suggestion}?"
    return f"unknown field; there are: {', '.join(known)}" if known else "unknown field"


def _choice(expected: str, value: Any) -> str:
    choices = expected.replace("'", "").replace(" or ", ", ").split(", ")
    wanted = choices[0] if len(choices) == 1 else "one of " + ", ".join(choices)
    suggestion = did_you_mean(value, choices) if isinstance(value, str) and len(choices) > 1 else None
    return f"must be {wanted}" + (f"; did you mean {suggestion}?" if suggestion else "")


def _wrong_kind(wanted: str, value: Any) -> str:
    got = kind_of(value)
    if wanted == "text" and got not in ("a list", "a mapping", "nothing"):
        return f"must be text, not {got}; put it in quotes"
    if wanted == "a whole number" and isinstance(value, str) and value.strip().isdigit():
        return "must be a whole number, not text; leave out the quotes"
    if value is None:
        return f"must be {wanted}, but nothing is written here; leave the field out or write {_empty(wanted)}"
    return f"must be {wanted}, not {got}"


def _empty(wanted: str) -> str:
    return {"a mapping": "{}", "a list": "[]"}.get(wanted, "a value")


def _known(path: Path, model: type[BaseModel]) -> list[str]:
    """Names of the fields of the model at `path`."""
    here: type[BaseModel] | None = model
    for part in path:
        if here is None:
            return []
        if isinstance(part, str):
            here = _model_in(_annotation(here, part))
    return [info.alias or name for name, info in here.model_fields.items()] if here else []


def _annotation(model: type[BaseModel], alias: str) -> Any:
    for name, info in model.model_fields.items():
        if (info.alias or name) == alias:
            return info.annotation
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Annotated`, `Optional` or `list`, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
