"""What the FAQ file and the documents folder hold, read and checked before anything is written."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chatbot_conversation.wire import Text

log = structlog.get_logger(__name__)

MAX_DOCUMENT_BYTES = 2_000_000
MAX_SLUG = 100


class BadFaqFile(Exception):
    """The FAQ file cannot be used; the message says where and why. Readiness shows this name."""


class BadDocumentsFolder(Exception):
    """The documents folder cannot be read."""


class FaqSeed(BaseModel):
    """One entry of the FAQ file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Annotated[Text, Field(min_length=1, max_length=1000)]
    answer: Annotated[Text, Field(min_length=1, max_length=20_000)]
    category: Annotated[Text, Field(min_length=1, max_length=100)] = "General"
    keywords: list[Text] = Field(default_factory=list)
    language: Annotated[Text, Field(min_length=1, max_length=35)] = "en"
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    slug: Annotated[Text, Field(pattern=r"^[\w-]{1,100}$")] | None = None

    @property
    def key(self) -> str:
        return self.slug or slug_of(self.question)

    def row(self) -> dict[str, Any]:
        """Columns of this seed, with its slug and content hash."""
        content = self.model_dump(exclude={"slug"}) | {"slug": self.key, "status": "published"}
        return content | {"source": "seed", "content_hash": content_hash(content)}


class DocumentSeed(BaseModel):
    """One Markdown file; `path` is relative to the folder, with forward slashes."""

    model_config = ConfigDict(frozen=True)

    path: str
    title: str
    text: str

    def row(self) -> dict[str, Any]:
        content = self.model_dump()
        return content | {"source": "seed", "content_hash": content_hash(content)}


def content_hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def slug_of(question: str) -> str:
    """Words of the question joined by dashes; a hash when it has no letters at all."""
    slug = "-".join(re.findall(r"\w+", question.casefold()))[:MAX_SLUG].strip("-")
    return slug or hashlib.sha256(question.encode()).hexdigest()[:16]


def read_faqs(path: Path) -> list[FaqSeed]:
    """Raises `BadFaqFile` naming the line or the entry and field."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        seeds = TypeAdapter(list[FaqSeed]).validate_python(content if content is not None else [])
    except (OSError, UnicodeDecodeError) as error:
        raise BadFaqFile(f"{path.name}: cannot be read ({type(error).__name__})") from None
    except yaml.YAMLError as error:
        raise BadFaqFile(f"{path.name}: {_where(error)}is not valid YAML") from None
    except ValidationError as error:
        mistakes = "; ".join(_mistake(detail["loc"], detail["msg"]) for detail in error.errors()[:5])
        raise BadFaqFile(f"{path.name}: {mistakes}") from None
    doubles = [slug for slug, count in Counter(seed.key for seed in seeds).items() if count > 1]
    if doubles:
        raise BadFaqFile(f"{path.name}: more than one entry has the slug {', '.join(doubles[:5])}")
    return seeds


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1} " if mark else ""


def _mistake(location: tuple[int | str, ...], message: str) -> str:
    match location:
        case ():
            return "must be a list of entries"
        case (int(index),):
            return f"entry {index + 1} must be a mapping with question and answer"
        case (int(index), *field):
            return f"entry {index + 1} {'.'.join(str(part) for part in field)} {message}"
        case _:
            return message


def read_documents(folder: Path) -> list[DocumentSeed]:
    """Every readable Markdown file below the folder; an unusable file is logged and left out.

    Raises:
        BadDocumentsFolder: there is no such folder.
    """
    if not folder.is_dir():
        raise BadDocumentsFolder(f"{folder.name}: is not a folder")
    return list(_documents(folder))


def _documents(folder: Path) -> Iterator[DocumentSeed]:
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() not in (".md", ".markdown") or any(part.startswith(".") for part in name.split("/")):
            continue
        # A link out of the folder would publish what its owner never meant to.
        if not path.is_file() or not path.resolve().is_relative_to(root):
            continue
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            log.error("document left out", path=name, reason=f"larger than {MAX_DOCUMENT_BYTES} bytes")
            continue
        try:
            text = path.read_text(encoding="utf-8").replace("\x00", "")
        except (OSError, UnicodeDecodeError) as error:
            log.error("document left out", path=name, reason=type(error).__name__)
            continue
        if text.strip():
            yield DocumentSeed(path=name, title=_title(text, path.stem), text=text)


def _title(text: str, stem: str) -> str:
    """The first heading, else the file's name in words."""
    heading = re.search(r"^#{1,6}\s+(.+?)\s*#*\s*$", text, re.MULTILINE)
    return heading.group(1)[:200] if heading else re.sub(r"[-_]+", " ", stem).strip().capitalize()
