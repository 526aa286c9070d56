"""Words, phrases and patterns, each of a category. Matched by RE2, in time linear in the text whatever the pattern.

A list is YAML: category → entries. An entry is a word or a phrase, whole and in any case; `*` at its end stands for any
ending; `/…/` is a pattern in RE2's syntax. Text is compared as it looks: compatible forms of letters are one, and
invisible characters do not hide a word.
"""

import asyncio
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import re2  # type: ignore[import-untyped]
import yaml

from chatbot_chat.moderation import Pace, Verdict
from chatbot_chat.moderation.builtin import BUILT_IN

MEMORY = 64 << 20
TOGETHER = 500
"""Words of one expression; more in one would need more memory than RE2 is given."""
AT_ONCE = 20_000
"""Characters that are judged where they are: up to 5 ms."""
LONGEST = 100
"""Characters of a word or a phrase; so many are held back of an answer on its way."""
NO_LETTER = r"[^\pL\pM\pN_]"
"""RE2's own `\b` knows ASCII only."""


class MalformedRules(ValueError):
    """The list cannot be used; names the category and the entry."""


class Rules:
    """A moderator that asks nobody."""

    name = "rules"
    pace = Pace(held=LONGEST, step=1, context=2 * LONGEST)

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        """Raises `MalformedRules`."""
        self._rules = {category: list(_compiled(category, entries)) for category, entries in lists.items()}

    async def judge(self, text: str) -> Verdict:
        """A text as long as a book takes a quarter of a second; the others' answers must not wait for that."""
        return self._judged(text) if len(text) <= AT_ONCE else await asyncio.to_thread(self._judged, text)

    def _judged(self, text: str) -> Verdict:
        seen = _as_it_looks(text)
        found = {name: any(rule.search(seen) for rule in rules) for name, rules in self._rules.items()}
        return Verdict(any(found.values()), found, {name: float(there) for name, there in found.items()})

    async def close(self) -> None:
        """Nothing is held."""


def rules_of(file: str | None) -> Rules:
    """What comes along, with the lists of a file: a category of the same name takes the other's place.

    Raises:
        MalformedRules: the file is not what this module's first words say.
        OSError: it cannot be read.
    """
    return Rules(BUILT_IN | (_read(Path(file)) if file else {}))


def _read(path: Path) -> dict[str, list[str]]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MalformedRules(f"moderation rules are not YAML: {error}") from None
    if not isinstance(found, dict):
        raise MalformedRules("moderation rules must map categories to lists of words")
    for category, entries in found.items():
        if not isinstance(entries, list) or not all(isinstance(entry, str) and entry.strip() for entry in entries):
            raise MalformedRules(f"moderation rules: {category!r} must be a list of texts; put numbers in quotes")
    return {str(category): entries for category, entries in found.items()}


def _compiled(category: str, entries: Sequence[str]) -> Iterator[Any]:
    """Patterns one by one, so that a mistake is named; words together, each kind of edge once: that class is large."""
    words: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if pattern := re.fullmatch(r"/(.+)/", entry.strip(), re.DOTALL):
            yield _expression(pattern[1], f"{category!r}: {entry!r}")
        else:
            before, word, after = _word(entry, f"{category!r}: {entry[:30]!r}")
            words.setdefault((before, after), []).append(word)
    for (before, after), alike in words.items():
        for start in range(0, len(alike), TOGETHER):
            yield _expression(f"{before}(?:{'|'.join(alike[start : start + TOGETHER])}){after}", repr(category))


def _expression(pattern: str, where: str) -> Any:
    options = re2.Options()
    options.case_sensitive, options.log_errors, options.max_mem = False, False, MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise MalformedRules(f"moderation rules: {where} is no pattern: {why}") from None


def _word(entry: str, where: str) -> tuple[str, str, str]:
    """What stands before it, itself, and what stands behind it, as expressions."""
    if len(entry) > LONGEST:
        raise MalformedRules(f"moderation rules: {where} is longer than {LONGEST} characters")
    text = _as_it_looks(entry.strip())
    stem = text.removesuffix("*").strip()
    if not stem:
        raise MalformedRules(f"moderation rules: {where} would flag everything")
    before = f"(?:^|{NO_LETTER})" if _has_edges(stem[0]) else ""
    after = f"(?:$|{NO_LETTER})" if _has_edges(stem[-1]) and stem == text else ""
    return before, r"\s+".join(map(re2.escape, stem.split())), after


def _has_edges(character: str) -> bool:
    """Whether words of this script end somewhere: some set no spaces, and signs are no words."""
    return character.isalnum() and unicodedata.east_asian_width(character) not in "WF"


def _as_it_looks(text: str) -> str:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return plain if plain.isascii() else "".join(item for item in plain if unicodedata.category(item) != "Cf")
