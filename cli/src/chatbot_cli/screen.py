"""What the command line looks like: one console, steps with a spinner, and errors as sentences."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.status import Status
from rich.table import Table
from rich.text import Text

from chatbot_cli.errors import CliError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

WIDTH = 14


@dataclass
class Step:
    """One step under way. `text` becomes the line that stays."""

    title: str
    status: Status
    text: str = ""
    skipped: bool = False

    def note(self, text: str) -> None:
        """What is going on right now; shown on a terminal only."""
        self.status.update(f"[bold]{self.title:<{WIDTH}}[/] [dim]{escape(text)}[/]")

    def done(self, text: str) -> None:
        self.text = text

    def unchanged(self, text: str) -> None:
        self.text, self.skipped = text, True


@contextlib.contextmanager
def step(title: str, text: str = "") -> Iterator[Step]:
    """Show a step while its block runs, then how it went and how long it took."""
    began = time.monotonic()
    with out.status("", spinner="dots") as status:
        current = Step(title, status)
        current.note(text)
        try:
            yield current
        except BaseException:
            out.print(f"[red]✗[/] [bold]{title:<{WIDTH}}[/]")
            raise
    took = time.monotonic() - began
    seconds = f" [dim]{took:.1f} s[/]" if took >= 0.1 and not current.skipped else ""
    mark = "[dim]·[/]" if current.skipped else "[green]✓[/]"
    body = f"[dim]{escape(current.text)}[/]" if current.skipped else escape(current.text)
    out.print(f"{mark} [bold]{title:<{WIDTH}}[/] {body}{seconds}")


def say(title: str, text: str) -> None:
    """One line beside the steps."""
    out.print(f"[cyan]•[/] [bold]{title:<{WIDTH}}[/] {escape(text)}")


def warn(title: str, text: str) -> None:
    out.print(f"[yellow]![/] [bold]{title:<{WIDTH}}[/] {escape(text)}")


def substituted(rows: Iterable[tuple[str, str]]) -> None:
    """The table of what runs here instead of what the resource asks of a cluster."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(style="dim")
    for asked, used in rows:
        table.add_row(asked, f"→ {used}")
    say("Laptop", "in the place of a cluster:")
    out.print(Padding(table, (0, 0, 0, WIDTH + 3)), soft_wrap=False)


def show_error(error: CliError) -> None:
    """The message, the lines that show it, and what to do; on the error stream."""
    err.print(f"[bold red]Error:[/] {escape(error.message)}")
    if error.details:
        for line in error.details:
            err.print(Text("  " + printable(line)))
    if error.hint:
        err.print(f"[cyan]→[/] {escape(error.hint)}")


def printable(text: str) -> str:
    """Text without characters that steer a terminal: a log or a model must not move our cursor."""
    return "".join(char for char in text if char in "\n\t" or (char.isprintable() and char != "\x7f"))
