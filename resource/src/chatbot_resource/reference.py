"""The reference of the resource for people, made from the same schema as the CustomResourceDefinition."""

from collections.abc import Iterator

from chatbot_resource.structural import Schema

_HEAD = """\
<!-- Made from chatbot_resource by `make generate`. Do not edit. -->

# ChatbotDeployment

`apiVersion: chatbot-operator.io/v1alpha1`. Everything is optional: `spec: {{}}` is a bot that answers from its
knowledge. A field without default depends on the profile, or is simply not there. `kubectl explain cbd.spec` says
the same.

The name has at most {length} lower-case letters, digits and '-', and starts with a letter.

"""
_TABLE = "| Field | Type | Default | What it is |\n| --- | --- | --- | --- |\n"


def reference(spec: Schema, status: Schema, name_length: int) -> str:
    """Markdown: the fields of the spec, the rules between them, the fields of the status."""
    rules = "".join(f"- {path}: {message}\n" for path, message in dict.fromkeys(_rules(spec, "spec")))
    return (
        _HEAD.format(length=name_length)
        + f"## spec\n\n{_TABLE}{''.join(_rows(spec, 'spec'))}\n"
        + f"## Rules between fields\n\n{rules}\n"
        + f"## status\n\nWritten by the operator. Programs read `conditions`, `phase` is for people.\n\n{_TABLE}"
        + "".join(_rows(status, "status"))
    )


def _rows(schema: Schema, path: str, seen: dict[str, str] | None = None) -> Iterator[str]:
    """`seen` has, for each map shown so far, where: the four components are alike and one is enough."""
    seen = {} if seen is None else seen
    for name, field in schema["properties"].items():
        where = f"{path}.{name}"
        inner, mark = (field["items"], "[]") if "items" in field else (field, "")
        first = seen.setdefault(repr(inner.get("properties")), where) if "properties" in inner else where
        default = f"`{field['default']}`" if field.get("default", "") != "" else ""
        what = field.get("description", "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{where}` | {_type(field)} | {default} | {what if first == where else f'{what} As `{first}`.'} |\n"
        if "properties" in inner and first == where:
            yield from _rows(inner, where + mark, seen)


def _type(field: Schema) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if "items" in field:
        return f"list of at most {field['maxItems']}"
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    if field["type"] == "integer":
        return f"{field.get('minimum', '')}…{field.get('maximum', '')}"
    return {"string": "text", "object": "map", "boolean": "true or false"}[field["type"]]


def _rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """Where a rule stands and what it says. Those of one component stand for the others."""
    for rule in schema.get("x-kubernetes-validations", []):
        yield f"`{path}`", rule["message"]
    for name, field in schema.get("properties", {}).items():
        if not path.endswith(".components") or name == "gateway":
            yield from _rules(field, f"{path}.{name}")
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")
