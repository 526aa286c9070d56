"""A resource file: one ChatbotDeployment and the ConfigMaps and Secrets beside it. All mistakes are found at once."""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from chatbot_resource import lines
from chatbot_resource.faqs import check_faqs
from chatbot_resource.lines import Document, Mistake, Path, dotted
from chatbot_resource.mistakes import did_you_mean, explain, kind_of
from chatbot_resource.model import API_VERSION, GROUP, KIND, ChatbotDeployment

MAX_BYTES = 4 * 1024 * 1024

Texts = Mapping[str, Mapping[str, str]]
"""Name of a ConfigMap or Secret → key → text."""


@dataclass(frozen=True)
class Documents:
    """What a file holds. `ignored` names documents of other kinds or namespaces, which a laptop does not need."""

    bot: ChatbotDeployment
    config_maps: Texts
    secrets: Texts = field(repr=False)
    ignored: tuple[str, ...] = ()


class InvalidFile(Exception):
    """A resource file that cannot be used; says everything that is wrong with it."""

    def __init__(self, file: str, mistakes: list[Mistake]) -> None:
        self.file = file
        self.mistakes = sorted(set(mistakes))
        super().__init__("\n".join(f"{file}:{mistake.line}: {mistake}" for mistake in self.mistakes))


def load(file: FilePath) -> Documents:
    """Read a file. Raises `InvalidFile`, or `OSError` when it cannot be opened."""
    return parse(text_of(file), str(file))


def text_of(file: FilePath) -> str:
    """What a file says, which may be a pipe and so be read once only. Raises as `load`."""
    if file.stat().st_size > MAX_BYTES:
        raise InvalidFile(str(file), [Mistake(1, "", f"larger than {MAX_BYTES // 1024 // 1024} MiB")])
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidFile(str(file), [Mistake(1, "", "not a UTF-8 text file")]) from None


def parse(text: str, file: str) -> Documents:
    """Understand the text of a file. Raises `InvalidFile`."""
    documents, mistakes = lines.read(text)
    reader = _Reader(mistakes)
    for document in documents:
        reader.take(document)
    return reader.finish(file)


class _Reader:
    """Sorts documents by kind and collects mistakes."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self._mistakes = mistakes
        self._broken = bool(mistakes)
        self._bots: list[tuple[Document, ChatbotDeployment | None]] = []
        self._texts: dict[str, list[tuple[str, str, dict[str, str]]]] = {"ConfigMap": [], "Secret": []}
        self._sources: dict[tuple[str, str], Document] = {}
        """Name and namespace → the ConfigMap as it was written."""
        self._ignored: list[str] = []

    def take(self, document: Document) -> None:
        data = document.data
        if not isinstance(data, dict):
            self._wrong(document, (), f"a document must be a mapping, not {kind_of(data)}")
            return
        kind, version = data.get("kind"), data.get("apiVersion")
        if kind in self._texts:
            self._take_texts(document, str(kind))
        elif kind == KIND or "kind" not in data or _ours(kind, version):
            self._take_bot(document)
        else:
            self._ignored.append(f"{kind} {_name(data)}")

    def finish(self, file: str) -> Documents:
        """Raises `InvalidFile` when anything is wrong."""
        if not self._bots and not self._broken:
            self._mistakes.append(Mistake(1, "", f"holds no {KIND} (apiVersion: {API_VERSION})"))
        for document, _ in self._bots[1:]:
            first = self._bots[0][0].line
            self._wrong(document, (), f"a second {KIND} (the first is in line {first}); write one per file")
        bot = self._bots[0][1] if self._bots else None
        if bot is not None:
            self._check_faqs(bot)
        if self._mistakes or bot is None:
            raise InvalidFile(file, self._mistakes)
        namespace = bot.metadata.namespace
        return Documents(
            bot, self._of("ConfigMap", namespace), self._of("Secret", namespace), tuple(sorted(self._ignored))
        )

    def _check_faqs(self, bot: ChatbotDeployment) -> None:
        """A reference that leads nowhere is for whoever resolves references; a wrong text is wrong here already."""
        ref, namespace = bot.spec.knowledge.faq_ref, bot.metadata.namespace
        if ref is None:
            return
        texts = next(
            (texts for name, other, texts in self._texts["ConfigMap"] if (name, other) == (ref.name, namespace)), {}
        )
        if ref.key not in texts:
            return
        document, path = self._sources[ref.name, namespace], ("data", ref.key)
        start = document.blocks.get(path)
        for mistake in check_faqs(texts[ref.key]):
            # Only the lines after a '|' are lines of the text; a folded or quoted text has one place.
            line = start + mistake.line - 1 if start else document.line_of(path)
            self._mistakes.append(Mistake(line, f"{dotted(path)} {mistake.path}".rstrip(), mistake.text))

    def _of(self, kind: str, namespace: str) -> dict[str, dict[str, str]]:
        """Texts in the bot's own namespace; a reference cannot reach another."""
        self._ignored += [
            f"{kind} {name} in namespace {other}" for name, other, _ in self._texts[kind] if other != namespace
        ]
        return {name: texts for name, other, texts in self._texts[kind] if other == namespace}

    def _take_bot(self, document: Document) -> None:
        bot: ChatbotDeployment | None = None
        try:
            bot = ChatbotDeployment.model_validate(document.data, by_alias=True, by_name=False)
        except ValidationError as error:
            self._mistakes += explain(error, document, ChatbotDeployment)
        self._bots.append((document, bot))

    def _take_texts(self, document: Document, kind: str) -> None:
        if document.data.get("apiVersion") != "v1":
            self._wrong(document, ("apiVersion",), "must be v1")
        metadata = document.data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        namespace = str(metadata.get("namespace") or "default") if isinstance(metadata, dict) else "default"
        if not isinstance(name, str) or not name:
            self._wrong(document, ("metadata", "name"), "is missing")
            return
        if any((name, namespace) == known[:2] for known in self._texts[kind]):
            self._wrong(document, ("metadata", "name"), f"a second {kind} named {name}")
        texts = self._section(document, "data", encoded=kind == "Secret")
        if kind == "Secret":
            texts |= self._section(document, "stringData", encoded=False)
        else:
            self._sources.setdefault((name, namespace), document)
        self._texts[kind].append((name, namespace, texts))

    def _section(self, document: Document, section: str, *, encoded: bool) -> dict[str, str]:
        """The texts of one section; mistakes name keys, never values."""
        data = document.data.get(section)
        if data is None:
            return {}
        if not isinstance(data, dict):
            self._wrong(document, (section,), f"must be a mapping, not {kind_of(data)}")
            return {}
        texts: dict[str, str] = {}
        for key, value in data.items():
            if not isinstance(value, str):
                advice = "; put it in quotes" if not isinstance(value, dict | list) else "; write it after a '|'"
                self._wrong(document, (section, str(key)), f"must be text, not {kind_of(value)}{advice}")
            elif (text := _decoded(value) if encoded else value) is None:
                self._wrong(document, (section, str(key)), "is not base64; plain text belongs under stringData")
            else:
                texts[str(key)] = text
        return texts

    def _wrong(self, document: Document, path: Path, text: str) -> None:
        self._mistakes.append(Mistake(document.line_of(path), dotted(path), text))


def _ours(kind: object, version: object) -> bool:
    """Whether this was probably meant to be a ChatbotDeployment."""
    return str(version).partition("/")[0] == GROUP or did_you_mean(kind, [KIND]) is not None


def _name(data: Mapping[Any, Any]) -> str:
    metadata = data.get("metadata")
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


def _decoded(text: str) -> str | None:
    try:
        return b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
