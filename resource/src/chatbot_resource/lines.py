"""YAML text as plain data that still knows its lines: the first step of reading a resource file.

PyYAML alone forgets where a value stood and lets a second key overwrite the first. This walks its node tree once,
keeps the line of every field, and refuses what would silently mean something else.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_NODES = 100_000
"""More than any sane file has; aliases that multiply each other ("a billion laughs") end here."""
MAX_DEPTH = 50

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}")

Path = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing wrong with a file. `line` counts from 1; `path` is the field, such as `spec.limits.perMinute`."""

    line: int
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


@dataclass
class Document:
    """One document of a file: its data, and the line of every field in it."""

    line: int
    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    blocks: dict[Path, int] = field(default_factory=dict)
    """First line of the text of each field that is written after a `|`."""

    def line_of(self, path: Path) -> int:
        """Line of a field, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.line)


def dotted(path: Path, data: Any = None) -> str:
    """`("spec", "models", 0, "weight")` → `spec.models[0].weight`; with the data `spec.models[main].weight`.

    Args:
        data: what the path leads through. Items of a list that have a name go by it, as everywhere in messages.
    """
    text = ""
    for part in path:
        data = _item(data, part)
        text += f"[{_called(data, part)}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _item(data: Any, part: str | int) -> Any:
    try:
        return data[part]
    except (KeyError, IndexError, TypeError):  # what is missing is often what the path is about
        return None


def _called(item: Any, index: int) -> str | int:
    """By what keys the lists of a resource have; a text that is long or strange is no name."""
    found = [item.get(key) for key in ("name", "language")] if isinstance(item, dict) else []
    return next((key for key in found if isinstance(key, str) and NAME.fullmatch(key)), index)


def read(text: str) -> tuple[list[Document], list[Mistake]]:
    """Every document that could be read and every mistake met on the way; empty documents are left out."""
    loader: yaml.SafeLoader | None = None
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101 - check_node() saw one
            document = Document(_first_line(node), None)
            mistakes += _walk(node, document)
            document.data = loader.construct_document(node)
            if document.data is not None:
                documents.append(document)
    except yaml.YAMLError as error:
        mistakes.append(syntax(error))
    except (RecursionError, _TooLarge):
        mistakes.append(Mistake(1, "", "nested too deeply, or aliases that multiply each other"))
    except ValueError as error:  # a timestamp such as 2024-13-45, a number such as 0o9
        mistakes.append(Mistake(1, "", f"a value cannot be read: {error}; put it in quotes"))
    finally:
        if loader is not None:
            loader.dispose()
    return documents, mistakes


class _TooLarge(Exception):
    pass


def _first_line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _walk(root: yaml.Node, document: Document) -> Iterator[Mistake]:
    """Note the line of every field below `root`; report keys that are written twice or are not text."""
    pending: list[tuple[yaml.Node, Path]] = [(root, ())]
    while pending:
        node, path = pending.pop()
        if len(document.lines) > MAX_NODES or len(path) > MAX_DEPTH:
            raise _TooLarge
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                document.lines[(*path, index)] = _first_line(item)
                pending.append((item, (*path, index)))
        elif isinstance(node, yaml.ScalarNode) and node.style == "|":
            document.blocks[path] = _first_line(node) + 1
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    continue
                here = (*path, str(key.value))
                if here in document.lines and not _merged(node):
                    first = document.lines[here]
                    yield Mistake(_first_line(key), dotted(here), f"written twice; the first is in line {first}")
                    continue
                if key.tag != "tag:yaml.org,2002:str":
                    yield Mistake(_first_line(key), dotted(here), "a key must be text; put it in quotes")
                document.lines[here] = _first_line(key)
                pending.append((value, here))


def _merged(node: yaml.MappingNode) -> bool:
    return any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value)


def syntax(error: yaml.YAMLError) -> Mistake:
    """PyYAML's complaint without the excerpt of the file: the line may hold a secret."""
    if isinstance(error, yaml.reader.ReaderError):
        return Mistake(1, "", "not a text file: it holds characters that YAML does not allow")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or "not valid YAML")
    if "'\\t'" in problem:
        problem = "a tab at the start of the line; YAML is indented with spaces"
    elif context := getattr(error, "context", None):
        problem = f"{problem} ({context})"
    return Mistake(mark.line + 1 if mark else 1, "", f"not valid YAML: {problem}")
