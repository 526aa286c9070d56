"""`chatbot chat`: a conversation in the terminal, the answer appearing as it is made."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from chatbot_cli.answer import Answer, waiting
from chatbot_cli.client import Client, Event
from chatbot_cli.errors import CliError
from chatbot_cli.screen import err, out, printable, show_error

HELP = (
    "/good and /bad rate the last answer (a reason may follow), /again asks for another one, "
    "/model shows who may answer and /model NAME chooses, /new starts another conversation, /quit (or Ctrl-D) leaves, "
    "Ctrl-C stops an answer."
)
DEFAULT = "default"
"""Instead of a model's name."""
RATINGS = {"/good": "up", "/bad": "down"}
PROMPT = "\001\033[1;36m\002›\001\033[0m\002 "  # noqa: RUF001 - a prompt, not an operator


@dataclass
class Talk:
    """One conversation with the bot."""

    client: Client
    conversation_id: str | None = None
    model: str | None = None
    answer_id: str | None = None
    """The message of the last answer."""
    chosen: bool = False
    """Whether the conversation is to keep `model`, and not only each message names it."""
    kept_in: str | None = None
    """The conversation that does."""
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
        completed = self._to_the_end(self.client.ask(text, self.conversation_id, self.model))
        self._keep()
        return completed

    def again(self) -> bool:
        """Have the last question answered once more; otherwise as `ask`."""
        conversation, answer = self._last()
        return self._to_the_end(self.client.regenerate(conversation, answer, self.model))

    def _model(self, name: str) -> None:
        if name:
            self.choose(name)
        else:
            self.show_models()

    def choose(self, name: str) -> None:
        """Have another model answer in this conversation, also where it is gone on with; `default` is the bot's own.

        Raises:
            CliError: there is no such model.
        """
        offered = self.client.models()
        if name not in (*offered, DEFAULT):
            raise CliError(f"There is no model {name}.", f"Choose one of: {', '.join((*offered, DEFAULT))}.")
        self.model, self.chosen, self.kept_in = name if name in offered else None, True, None
        self._keep()

    def _keep(self) -> None:
        if self.chosen and self.conversation_id and self.kept_in != self.conversation_id:
            self.client.choose(self.conversation_id, self.model)
            self.kept_in = self.conversation_id

    def show_models(self) -> None:
        """List them, with a mark at who answers now. Raises `CliError`."""
        offered = self.client.models()
        kept = self.client.model_of(self.conversation_id) if self.conversation_id and not self.model else None
        now = self.model or kept
        for name, default in offered.items():
            mark = "→" if name == now or (default and now not in offered) else " "
            err.print(f"[dim]{mark} {escape(printable(name))}{' (default)' if default else ''}[/]")

    def rate(self, rating: str, comment: str) -> None:
        """Say what the last answer is worth: `up` or `down`. Raises `CliError`."""
        self.client.rate(*self._last(), rating, comment or None)

    def _last(self) -> tuple[str, str]:
        if not (self.conversation_id and self.answer_id):
            raise CliError("There is no answer yet.", "Ask something first.")
        return self.conversation_id, self.answer_id

    def _to_the_end(self, stream: Iterator[Event]) -> bool:
        answer = Answer(self.console)
        self._follow(answer, stream)
        while answer.run_id and answer.questions:
            call = answer.questions[0]
            answer.questions = []  # those that are left come again
            approved = self.agrees(f"{call.get('name')} {call.get('arguments')}")
            self._follow(answer, self.client.answer(answer.run_id, str(call.get("tool_call_id")), approved))
        return answer.completed

    def _follow(self, answer: "Answer", stream: Iterator[Event]) -> None:
        try:
            for event in waiting(self.console, stream):
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
            elif command == "/model":
                self._model(rest.strip())
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
