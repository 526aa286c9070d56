"""The last words of `chatbot up`: where the bot is, how to get in, and what to try next."""

import json
import os
import shlex
from pathlib import Path

from rich.markup import escape
from rich.rule import Rule
from rich.text import Text

from chatbot_cli import keys
from chatbot_cli.calling import program_name
from chatbot_cli.layout import admin_email
from chatbot_cli.screen import err, out
from chatbot_cli.up import Outcome

WIDTH = 10


def show(outcome: Outcome) -> None:
    """Print the outcome. Addresses stand on lines of their own, so that they can be clicked and copied."""
    home = outcome.home
    url = f"http://127.0.0.1:{outcome.port}"
    program = program_name()
    question = outcome.question or "What can you do?"
    body = json.dumps({"content": question}, ensure_ascii=False)
    what = f"is ready after {outcome.seconds:.1f} s" if outcome.changed else "was running already, unchanged"
    out.print()
    out.print(Rule(f"[bold green]{escape(home.name)} {what}[/]", align="left", style="green"), soft_wrap=False)
    out.print()
    _row("Open", f"[link={outcome.link}]{escape(outcome.link)}[/link]", "bold cyan")
    _row("", "signs you in as administrator: once, within 15 minutes", "dim")
    _row("Account", escape(f"{admin_email(home.name)}, password in {_short(keys.admin_password_file(home))}"))
    _row("API", f"{url}/docs")
    out.print()
    _row("Try", escape(f"{_again('chat', program)}"), "bold")
    # Text, not markup: before a line's end a backslash would be doubled.
    _plain(f"{program} chat {shlex.quote(question)}")
    _plain(f"{program} token --header | curl -N -H @- {url}/api/v1/chat/send \\")
    _plain("  -H 'Content-Type: application/json' -H 'Accept: text/event-stream' \\")
    _plain(f"  -d {shlex.quote(body)}")
    _row("Look", escape(f"{_again('status', program)}    {_again('logs', program)}"))
    _row("Stop", escape(f"{_again('down', program)}    (what was said is kept)"))


def show_interrupted() -> None:
    """After Ctrl-C: nothing is half-made, and there are two ways on."""
    program = program_name()
    err.print("[yellow]Interrupted.[/] What has started keeps running.")
    err.print(
        f"[cyan]→[/] Run the same command to go on from there, or stop it with: {escape(_again('down', program))}"
    )


def _again(word: str, program: str) -> str:
    """The same way of calling that brought the user here."""
    return f"make {word}" if os.environ.get("MAKELEVEL") else f"{program} {word}"


def _row(title: str, text: str, style: str = "") -> None:
    body = f"[{style}]{text}[/]" if style else text
    out.print(f"  [bold]{title:<{WIDTH}}[/]{body}")


def _plain(text: str) -> None:
    out.print(Text(" " * (WIDTH + 2) + text))


def _short(path: Path) -> str:
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
