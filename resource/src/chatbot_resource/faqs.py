"""The FAQ text of a ConfigMap, checked before anything runs: the rules of its reader, the conversation service.

A wall keeps this package and the services apart, so the rules stand here a second time; tests/contract/test_faqs.py
keeps the two in step.
"""

import hashlib
import re
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chatbot_resource import lines
from chatbot_resource.lines import Document, Mistake, Path, dotted
from chatbot_resource.mistakes import explain

MAX_SLUG = 100
MAX_MISTAKES = 20
MAX_KEYS = 100
"""Of one mapping. Merged ones (`<<`) that merge others multiply: a page of them would fill any memory."""


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    return text


NoNul = AfterValidator(_no_nul)


class _Loader(yaml.SafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_KEYS:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_KEYS} keys in one", node.start_mark)


class FaqEntry(BaseModel):
    """One entry of the FAQ text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Annotated[str, Field(min_length=1, max_length=1000), NoNul]
    answer: Annotated[str, Field(min_length=1, max_length=20_000), NoNul]
    category: Annotated[str, Field(min_length=1, max_length=100), NoNul] = "General"
    keywords: list[Annotated[str, NoNul]] = Field(default_factory=list)
    language: Annotated[str, Field(min_length=1, max_length=35), NoNul] = "en"
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    slug: Annotated[str, NoNul, Field(pattern=r"^[\w-]{1,100}$")] | None = None

    @property
    def key(self) -> str:
        """The slug, made from the question where none is written."""
        slug = "-".join(re.findall(r"\w+", self.question.casefold()))[:MAX_SLUG].strip("-")
        return self.slug or slug or hashlib.sha256(self.question.encode()).hexdigest()[:16]


def check_faqs(text: str) -> list[Mistake]:
    """What is wrong with a FAQ text. Lines count within it; the path is such as `entry 3 answer`."""
    try:
        content: Any = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
        entries = TypeAdapter(list[FaqEntry]).validate_python(content if content is not None else [])
    except yaml.YAMLError as error:
        return [lines.syntax(error)]
    except ValidationError as error:
        return _explained(error, text)
    except RecursionError:
        return [Mistake(1, "", "nested too deeply")]
    except ValueError as error:  # a timestamp such as 2024-13-45
        return [Mistake(1, "", f"a value cannot be read: {error}; put it in quotes")]
    return _doubles(entries, text)


def _explained(error: ValidationError, text: str) -> list[Mistake]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    paths: list[Path] = [detail["loc"] for detail in error.errors(include_url=False)]
    document = Document(1, None, {path: _line_of(root, path) for path in paths})
    found = explain(error, document, FaqEntry)[:MAX_MISTAKES]
    return [Mistake(mistake.line, _named(path), mistake.text) for mistake, path in zip(found, paths, strict=False)]


def _doubles(entries: list[FaqEntry], text: str) -> list[Mistake]:
    first: dict[str, int] = {}
    again = [(index, entry.key) for index, entry in enumerate(entries) if first.setdefault(entry.key, index) != index]
    root = yaml.compose(text, Loader=yaml.SafeLoader) if again else None
    return [
        Mistake(_line_of(root, (index,)), _named((index,)), f"has the slug {key}, as entry {first[key] + 1} has")
        for index, key in again[:MAX_MISTAKES]
    ]


def _named(path: Path) -> str:
    """`(2, "answer")` → `entry 3 answer`."""
    match path:
        case (int(index), *field):
            return f"entry {index + 1} {dotted(tuple(field))}".rstrip()
    return dotted(path)


def _line_of(node: yaml.Node | None, path: Path) -> int:
    """Line of what stands at `path`, or of the nearest around it; the last of a key written twice, as that counts."""
    line = 1
    for part in path:
        child: yaml.Node | None = None
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            child = node.value[part]
            line = child.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    child, line = value, key.start_mark.line + 1
        node = child
    return line
