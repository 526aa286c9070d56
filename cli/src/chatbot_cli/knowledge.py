"""The folder of `--knowledge`, seen with the eyes of the worker that will index it, so that nobody waits in vain."""

from collections.abc import Iterable, Mapping
from pathlib import Path

SUFFIXES = (".md", ".markdown")
MAX_BYTES = 2_000_000


def markdown_files(folder: Path) -> list[Path]:
    """The Markdown below a folder, without hidden files and folders."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def left_out(folder: Path, documents: Iterable[Path]) -> Mapping[Path, str]:
    """Documents that will not be indexed, and why."""
    root = folder.resolve()
    return {path: reason for path in documents if (reason := _reason(root, path))}


def text_of(document: Path) -> str:
    """Its text as it is indexed. Raises `OSError`, `UnicodeDecodeError`."""
    return document.read_text(encoding="utf-8").replace("\x00", "").strip()


def _reason(root: Path, path: Path) -> str | None:
    if not path.resolve().is_relative_to(root):
        return "a link out of the folder"
    if path.stat().st_size > MAX_BYTES:
        return f"larger than {MAX_BYTES} bytes"
    try:
        return None if text_of(path) else "empty"
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
