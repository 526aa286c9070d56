"""What is made from the comments of the chart's values.yaml: its JSON Schema, and the table in its README.

`make generate` runs this. A value's description is the comment above it; a last line `@schema …` adds to its type what
the default does not tell: a name from `NAMED` ("image", or "image!" for one that may not be empty), or JSON Schema.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]

CHART = Path("charts/chatbot-operator")
MARK = "@schema"
BEGIN = "<!-- Made from values.yaml by `make generate`. Do not edit. -->\n"
END = "<!-- end -->\n"
TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}

_NAME: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", "maxLength": 63}
_TEXTS: Schema = {"additionalProperties": {"type": "string"}}
NAMED: dict[str, Schema] = {
    "image": {"pattern": "^([A-Za-z0-9][-A-Za-z0-9._:/@]*)?$", "maxLength": 512},
    "tag": {"pattern": "^([A-Za-z0-9_][-A-Za-z0-9._]*)?$", "maxLength": 128},
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    # Not On and Off, which YAML takes for true and false.
    "when": {"enum": ["Auto", "Always", "Never"]},
    "name": _NAME,
    # A Service's name begins with a letter.
    "serviceName": _NAME | {"pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"},
    "names": {
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": _NAME | {"minLength": 1}},
        }
    },
    "namespaces": {"uniqueItems": True, "items": _NAME | {"minLength": 1}},
    "texts": _TEXTS,
    "resources": {
        "additionalProperties": False,
        "properties": {
            "requests": {"type": "object"},
            "limits": {"type": "object"},
            "claims": {"type": "array"},
        },
    },
}


class BadComment(Exception):
    """A value of values.yaml is not described as it must be; the message names it."""


@dataclass(frozen=True)
class Value:
    """One key of values.yaml."""

    name: str
    """Dotted, from the root."""
    default: Any
    description: str
    more: Schema | None
    """What `@schema` says; None where it says nothing."""
    inner: "list[Value]" = field(default_factory=list)
    """Empty for a leaf: also of a map that Kubernetes defines, which `@schema` marks."""

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]


def read(text: str) -> list[Value]:
    """The values of a values.yaml, in its order.

    Raises:
        BadComment: an `@schema` cannot be understood, or a map is neither described nor filled.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise BadComment("values.yaml is no map")
    return list(_values(root, text.splitlines(), ""))


def _values(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, value in node.value:
        name = prefix + key.value
        description, more = _comment(lines, key.start_mark.line, name)
        default = yaml.safe_load(yaml.serialize(value))
        inner = list(_values(value, lines, f"{name}.")) if _is_described_inside(value, more) else []
        if default == {} and more is None:
            raise BadComment(f"{name} is an empty map: @schema must say what belongs into it")
        yield Value(name, default, description, more, inner)


def _is_described_inside(value: yaml.Node, more: Schema | None) -> bool:
    return isinstance(value, yaml.MappingNode) and more is None


def _comment(lines: list[str], line: int, name: str) -> tuple[str, Schema | None]:
    """Description and `@schema` of the value that begins on a line."""
    above = line
    while above and lines[above - 1].lstrip().startswith("#"):
        above -= 1
    said = [text.lstrip().lstrip("#").strip() for text in lines[above:line]]
    if said and said[-1].startswith(MARK):
        return " ".join(said[:-1]), _named(said[-1].removeprefix(MARK).strip(), name)
    return " ".join(said), None


def _named(said: str, name: str) -> Schema:
    if said.startswith("{"):
        found: Schema = yaml.safe_load(said)
        return found
    try:
        named = NAMED[said.removesuffix("!")]
    except KeyError:
        raise BadComment(f"{name}: @schema {said} is none of {', '.join(NAMED)}") from None
    return named | {"minLength": 1} if said.endswith("!") else named


def schema(values: list[Value]) -> str:
    """values.schema.json: closed, so that a misspelt value is refused instead of ignored."""
    whole: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart chatbot-operator",
        **_map(values),
    }
    # Helm hands it to every chart.
    whole["properties"]["global"] = {"type": "object"}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _map(values: list[Value]) -> Schema:
    properties = {value.key: _schema(value) for value in values}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema(value: Value) -> Schema:
    described = {"description": value.description} if value.description else {}
    if value.inner:
        return described | _map(value.inner)
    return described | {"type": TYPES[type(value.default)], "default": value.default} | (value.more or {})


def table(values: list[Value]) -> str:
    """The values as a Markdown table."""
    rows = "".join(f"| `{value.name}` | {_default(value)} | {value.description} |\n" for value in _flat(values))
    return f"| Value | Default | What it is |\n| --- | --- | --- |\n{rows}"


def _flat(values: list[Value]) -> Iterator[Value]:
    """A map is shown for what is said of it."""
    for value in values:
        if value.description or not value.inner:
            yield value
        yield from _flat(value.inner)


def _default(value: Value) -> str:
    return "" if value.inner or value.default == "" else f"`{json.dumps(value.default).strip(chr(34))}`"


def files(repository: Path) -> dict[Path, str]:
    """What `make generate` writes."""
    chart = repository / CHART
    values = read((chart / "values.yaml").read_text(encoding="utf-8"))
    readme = (chart / "README.md").read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        chart / "values.schema.json": schema(values),
        chart / "README.md": f"{before}{BEGIN}{table(values)}{END}{after}",
    }


def main() -> None:
    """Write the files below the folder given, default the current one."""
    for file, content in files(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).items():
        file.write_text(content, encoding="utf-8")
        print(file)


if __name__ == "__main__":
    main()
