"""What all views share: tables, indented blocks and paragraphs, on a terminal and in a pipe."""

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from chatbot_cli.screen import out

PIPE_WIDTH = 500
"""A pipe has no edge at which to break a line."""
READABLE = 100
"""Columns of a paragraph."""
INDENT = 2


def table(*titles: str, right: tuple[str, ...] = (), last: str | None = None) -> Table:
    """
    Args:
        titles: columns that are never broken.
        right: those of them that hold numbers.
        last: one more column, broken where the terminal ends.
    """
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in titles:
        made.add_column(title, no_wrap=True, justify="right" if title in right else "left")
    if last is not None:
        made.add_column(last, overflow="fold")
    return made


def headless(columns: int) -> Table:
    """A table without titles, whose last column is broken where the terminal ends."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for index in range(columns):
        made.add_column(no_wrap=index < columns - 1, overflow="fold")
    return made


def indented(what: RenderableType, indent: int = INDENT) -> RenderableType:
    return Padding(what, (0, 0, 0, indent), expand=False)


def show(what: RenderableType) -> None:
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    out.print(what, soft_wrap=False)


def paragraph(text: Text, indent: int = INDENT) -> None:
    """Broken between words at a width that reads well; a pipe gets whole lines."""
    if out.is_terminal:
        out.print(indented(text, indent), soft_wrap=False, width=min(READABLE, out.width))
    else:
        out.print(Text(" " * indent) + text)


def title(text: str) -> None:
    out.print(f"\n[bold]{text}[/]")
