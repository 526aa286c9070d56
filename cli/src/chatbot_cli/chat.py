"""`chatbot chat`: a conversation in the terminal, the answer appearing as it is made."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape

from chatbot_cli.client import Client, Event
from chatbot_cli.errors import CliError
from chatbot_cli.screen import err, out, printable, show_error

HELP = (
    "/good and /bad rate the last answer (a reason may follow), /again asks for another one, "
    "/new starts another conversation, /quit (or Ctrl-D) leaves, Ctrl-C stops an answer."
)
RATINGS = {"/good": "up", "/bad": "down"}
CUT = {
    "length": "cut off: the answer has reached the longest length that is set",
    "content_filter": "withheld by a filter, or the rest of it",
}
"""Why an answer that ended by itself is not whole."""
LONGEST = 160
"""Characters of what a tool is asked and says; all of it is in the page."""
PROMPT = "\001\033[1;36m\002›\001\033[0m\002 "  # noqa: RUF001 - a prompt, not an operator


@dataclass
class Talk:
    """One conversation with the bot."""

    client: Client
    conversation_id: str | None = None
    model: str | None = None
    answer_id: str | None = None
    """The message of the last answer."""
    console: Console = out
    agrees: Callable[[str], bool] = field(default_factory=lambda: _agrees)
    """Asks the user whether a tool may be called."""

    def ask(self, text: str) -> bool:
        """Ask and print the answer as it comes; Ctrl-C stops the answer and keeps the conversation.

        Returns:
            Whether the answer was completed.

        Raises:
            CliError: the question was refused or the connection broke.
        """
        return self._to_the_end(self.client.ask(text, self.conversation_id, self.model))

    def again(self) -> bool:
        """Have the last question answered once more; otherwise as `ask`."""
        conversation, answer = self._last()
        return self._to_the_end(self.client.regenerate(conversation, answer, self.model))

    def rate(self, rating: str, comment: str) -> None:
        """Say what the last answer is worth: `up` or `down`. Raises `CliError`."""
        self.client.rate(*self._last(), rating, comment or None)

    def _last(self) -> tuple[str, str]:
        if not (self.conversation_id and self.answer_id):
            raise CliError("There is no answer yet.", "Ask something first.")
        return self.conversation_id, self.answer_id

    def _to_the_end(self, stream: Iterator[Event]) -> bool:
        answer = _Answer(self.console)
        self._follow(answer, stream)
        while answer.run_id and answer.questions:
            call = answer.questions[0]
            answer.questions = []  # those that are left come again
            approved = self.agrees(f"{call.get('name')} {call.get('arguments')}")
            self._follow(answer, self.client.answer(answer.run_id, str(call.get("tool_call_id")), approved))
        return answer.completed

    def _follow(self, answer: "_Answer", stream: Iterator[Event]) -> None:
        try:
            for event in _waiting(self.console, stream):
                self.conversation_id = event.data.get("conversation_id") or self.conversation_id
                self.answer_id = event.data.get("message_id") or self.answer_id
                answer.take(event)
        except KeyboardInterrupt:
            answer.stopped(self.client)
        finally:
            stream.close()  # type: ignore[attr-defined]

    def repl(self) -> None:
        """Questions and answers until the user leaves."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() its line editing and history
        err.print(f"[dim]{HELP}[/]\n")
        while True:
            try:
                text = input(PROMPT if sys.stdout.isatty() else "").strip()
            except EOFError:
                err.print()
                return
            except KeyboardInterrupt:
                err.print("[dim] (Ctrl-D leaves)[/]")
                continue
            if text in ("/quit", "/exit", "/q"):
                return
            if text:
                self._obey(text)

    def _obey(self, text: str) -> None:
        """A question or a command; what goes wrong is told, and the conversation goes on."""
        command, _, rest = text.partition(" ")
        try:
            if command in RATINGS:
                self.rate(RATINGS[command], rest.strip())
                err.print("[dim]Thank you, that helps.[/]")
            elif command == "/again":
                self.again()
            elif command == "/new":
                self.conversation_id = self.answer_id = None
                err.print("[dim]A new conversation.[/]")
            elif text.startswith("/"):
                err.print(f"[dim]{HELP}[/]")
            else:
                self.ask(text)
        except CliError as error:
            show_error(error)
        self.console.print()


def _agrees(question: str) -> bool:
    """Nobody who could be asked agrees to nothing."""
    if not sys.stdin.isatty():
        err.print(f"[dim](declined, nobody is there to agree: {escape(printable(question))})[/]")
        return False
    err.print(f"\nMay the bot call [bold]{escape(printable(question))}[/]?")
    try:
        return input("[y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False


@dataclass
class _Answer:
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


def _waiting(console: Console, stream: Iterator[Event]) -> Iterator[Event]:
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


def question_from(argument: str | None, piped: str | None) -> str | None:
    """What to ask once: the argument, what was piped in, or both, the argument first."""
    return "\n\n".join(part for part in ((argument or "").strip(), (piped or "").strip()) if part) or None


def read_piped(*, wait: bool) -> str | None:
    """What was piped in; None on a terminal.

    Args:
        wait: read whatever standard input is. Otherwise only a pipe or a file: what a scheduler or an editor leaves
            open would never end.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return None
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return sys.stdin.read() if wait or stat.S_ISFIFO(mode) or stat.S_ISREG(mode) else ""
