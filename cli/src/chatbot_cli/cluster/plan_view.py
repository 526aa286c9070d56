"""A plan on the screen: a diff per child, then what it comes to."""

import difflib
from collections.abc import Mapping

from chatbot_operator.reasons import STUCK
from rich.text import Text

from chatbot_cli.cluster.comparing import text
from chatbot_cli.cluster.plan import Planned
from chatbot_cli.cluster.planning import Change, Restart, Wait
from chatbot_cli.cluster.resolved import resolved
from chatbot_cli.cluster.showing import headless, indented, table, title
from chatbot_cli.cluster.showing import show as display
from chatbot_cli.screen import out, printable

MARKS = {"create": ("+", "green"), "change": ("~", "yellow"), "replace": ("~", "yellow"), "delete": ("-", "red")}
LINES = {"+": "green", "-": "red", "@": "cyan"}
NAMED = 4
"""Pods that are listed by name."""


def show(planned: Planned, *, diffs: bool) -> None:
    if diffs:
        for change in planned.preview.changes:
            _diff(change)
    else:
        for change in planned.preview.changes:
            _head(change)
    _resolved(planned)
    _pods(planned.preview.restarts)
    _waits(planned.preview.waits)
    _sum(planned)


def _head(change: Change) -> None:
    mark, colour = MARKS[change.verb]
    note = f"  {change.note}" if change.note else ""
    out.print(Text.assemble((f"{mark} {change.kind} {change.name}", f"bold {colour}"), (note, "dim")))


def _diff(change: Change) -> None:
    _head(change)
    before, after = (text(side).splitlines() if side else [] for side in (change.before, change.after))
    for line in list(difflib.unified_diff(before, after, lineterm="", n=3))[2:]:
        out.print(Text(printable(line), LINES.get(line[:1], "")))
    out.print()


def _resolved(planned: Planned) -> None:
    profile = planned.bot.spec.profile
    title(f"What unset fields become, profile {profile}")
    made = table("", "pods", "cpu (limit)", "memory (limit)", "drain")
    for row in resolved(planned.preview.workloads, (planned.written.get("spec") or {}).get("components") or {}):
        made.add_row(row.part, *(Text(cell.text, "bold" if cell.written else "") for cell in row.cells))
    display(indented(made))
    if out.is_terminal:
        out.print("  [dim]Bold: written in the file.[/]")


def _pods(restarts: tuple[Restart, ...]) -> None:
    title("Pods")
    if not restarts:
        out.print("  No pod is restarted.")
        return
    if all(item.what == "started" for item in restarts):
        out.print(f"  All are new: {', '.join(item.part for item in restarts)}.")
        return
    made = headless(2)
    for item in restarts:
        made.add_row(f"[bold]{item.part}[/]", _what(item))
    display(indented(made))
    if any(item.what != "ended" for item in restarts):
        out.print("  Every other pod goes on as it is.")


def _what(item: Restart) -> Text:
    colour = {"replaced": "yellow", "ended": "red", "started": "green", "scaled": "cyan"}[item.what]
    count, names = len(item.pods), ", ".join(item.pods[:NAMED]) + (", …" if len(item.pods) > NAMED else "")
    what = "pods start" if item.what == "started" else f"{count} pod{' is' if count == 1 else 's are'} {item.what}"
    store = " (it is the only one: the store is away for a moment)" if item.alone else ""
    why = f": {', '.join(item.why)}" if item.why else ""
    named = f"\n{names}" if names and item.what in ("replaced", "ended") else ""
    return Text.assemble((what, colour), f"{why}{store}", (named, "dim"))


def _waits(waits: tuple[Wait, ...]) -> None:
    if not waits:
        return
    title("Not at once")
    made = headless(2)
    for wait in waits:
        stuck = wait.blocked.reason in STUCK
        text = Text.assemble((f"{wait.blocked.reason}: ", "yellow") if stuck else "", wait.blocked.message)
        made.add_row(
            f"[bold]{wait.part}[/]", text + Text("" if wait.known else " What it would do is not known before.", "dim")
        )
    display(indented(made))


def _sum(planned: Planned) -> None:
    made = planned.preview
    counts = {verb: sum(change.verb in verbs for change in made.changes) for verb, verbs in _VERBS.items()}
    parts = [f"{count} to {verb}" for verb, count in counts.items() if count]
    new = "" if planned.live else " (new)"
    name = f"{planned.bot.name}{new} in namespace {planned.bot.metadata.namespace}"
    out.print()
    if not parts:
        out.print(
            Text.assemble((f"{name}: nothing would change.", "bold green"), f" All {made.unchanged} children stay.")
        )
        return
    out.print(
        Text.assemble(
            (f"{name}: {', '.join(parts)}", "bold"), f", {made.unchanged} stay as they are." if made.unchanged else "."
        )
    )
    if planned.bot.spec.model_dump().get("mode") == "Paused":
        out.print("[yellow]![/] It is paused: the operator does this when it is resumed.")
    out.print(Text.assemble("Nothing was changed. To do it: ", (planned.command, "cyan")))


_VERBS: Mapping[str, tuple[str, ...]] = {"create": ("create",), "change": ("change", "replace"), "delete": ("delete",)}
