"""An answer on a terminal, as its events come in."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape

from chatbot_cli.client import Client, Event
from chatbot_cli.errors import CliError
from chatbot_cli.screen import err, printable

CUT = {
    "length": "cut off: the answer has reached the longest length that is set",
    "content_filter": "withheld by a filter, or the rest of it",
}
"""Why an answer that ended by itself is not whole."""
LONGEST = 160
"""Characters of what a tool is asked and says; all of it is in the page."""


@dataclass
class Answer:
    """The answer on the screen."""

    console: Console
    run_id: str | None = None
    printed: str = ""
    noted: bool = False
    """Whether a note has come since the last of it."""
    citations: list[dict[str, Any]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    """Calls of tools that wait for the user."""
    completed: bool = False

    def take(self, event: Event) -> None:
        self.run_id = event.data.get("run_id") or self.run_id
        match event.type:
            case "run.started" if gone := event.data.get("model_gone"):
                now = f"{event.data.get('model')} answers"
                err.print(f"[dim]({escape(printable(f'model {gone} is not offered any more, {now}'))})[/]")
            case "text.delta":
                self._print(str(event.data.get("text", "")))
            case "run.snapshot":
                text = str(event.data.get("text", ""))
                self._print(text.removeprefix(self.printed))
            case "tool.started":
                self._note("⚙", f"{event.data.get('name')} {event.data.get('arguments') or ''}")
            case "tool.finished":
                mark = "✓" if event.data.get("status") == "completed" else "✗"
                self._note(mark, f"{event.data.get('name')}: {event.data.get('content') or ''}")
            case "tool.approval":
                self.questions.append(event.data)
            case "text.replaced":
                self._close()
                self.printed = ""
                self._print(str(event.data.get("text", "")))
            case "citation":
                self.citations.append(event.data)
            case "run.finished":
                self.completed = True
                if not self.printed:
                    self._print(_text_of(event.data.get("content")))
                self._close()
                if cut := CUT.get(str(event.data.get("finish_reason"))):
                    err.print(f"[dim]({cut})[/]")
            case "run.failed":
                self._close()
                error = event.data.get("error") or {}
                raise CliError(str(error.get("detail") or error.get("title") or "The answer could not be made."))
            case "run.cancelled" | "run.interrupted":
                self._close()
                err.print(f"[dim]({event.type.removeprefix('run.')})[/]")
            case _:
                pass  # events that came with a newer bot

    def stopped(self, client: Client) -> None:
        """The user pressed Ctrl-C."""
        done = self.run_id is not None and client.cancel(self.run_id)
        if self.printed:
            self.console.print()
        err.print("[dim](stopped)[/]" if done else "[dim](no longer watched; the answer may still be finished)[/]")

    def _print(self, text: str) -> None:
        if text:
            self.printed += text
            self.noted = False
            self.console.print(printable(text), end="", markup=False, emoji=False)
            self.console.file.flush()

    def _note(self, mark: str, text: str) -> None:
        """A line about a tool, beside the answer. Its text is a model's or a stranger's."""
        if self.printed and not self.printed.endswith("\n") and not self.noted:
            err.print()
        self.noted = True
        line = " ".join(printable(text).split())
        err.print(f"[dim]  {mark} {escape(line if len(line) <= LONGEST else line[:LONGEST] + '…')}[/]")

    def _close(self) -> None:
        """End the line and list what was cited, each source once."""
        if self.printed and not self.printed.endswith("\n"):
            self.console.print()
        shown: set[str] = set()
        for citation in self.citations:
            line = _citation(citation)
            if line not in shown:
                shown.add(line)
                err.print(line)


def waiting(console: Console, stream: Iterator[Event]) -> Iterator[Event]:
    """The events; until text comes, a terminal shows that something is going on."""
    status = console.status("[dim]thinking[/]", spinner="dots") if console.is_terminal else None
    if status:
        status.start()
    try:
        for event in stream:
            if status and event.type not in ("run.started", "citation", "usage"):
                status.stop()
                status = None
            yield event
    finally:
        if status:
            status.stop()


def _citation(citation: dict[str, Any]) -> str:
    title = printable(str(citation.get("title") or citation.get("source_id") or "source"))
    number = f"[{citation['index']}] " if "index" in citation else ""
    url = printable(str(citation.get("url") or ""))
    return f"[dim]  {escape(number)}{escape(title)}{f'  {escape(url)}' if url else ''}[/]"


def _text_of(content: object) -> str:
    """The text of a message, given as text or as parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
