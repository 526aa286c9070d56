"""The documentation as tests see it: pages, their fenced blocks, headings and links."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SAMPLES = sorted((ROOT / "k8s" / "samples").glob("*.yaml"))
GUIDES = sorted((DOCS / "guides").glob("*.md"))
PAGES = sorted(
    [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "charts").rglob("*.md"), *(ROOT / "k8s").rglob("*.md")]
)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block and where it is."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = _BLOCK.finditer(text)
    return [
        Block(page, text[: match.start()].count("\n") + 1, match[1], match[2])
        for match in found
        if match[1] in languages
    ]


def headings(page: Path) -> list[str]:
    """As they are written, without what is inside of blocks."""
    return _HEADING.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))


def links(page: Path) -> list[str]:
    """Where the page leads to inside the repository."""
    targets = _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return [target for target in targets if "://" not in target]


def anchor(heading: str) -> str:
    """What a link to a heading ends in, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
