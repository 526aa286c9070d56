"""An explanation on the screen."""

from datetime import UTC, datetime

from rich.markup import escape
from rich.text import Text

from chatbot_cli.cluster.explain import Explanation, Problem
from chatbot_cli.cluster.happenings import Happening
from chatbot_cli.cluster.showing import INDENT, paragraph, title
from chatbot_cli.cluster.times import age
from chatbot_cli.screen import out, printable

MAX_MESSAGE = 200


def show(found: Explanation) -> None:
    colour = "green" if found.ready else "yellow" if found.serving else "red"
    paragraph(Text.from_markup(f"[bold {colour}]{escape(printable(found.headline))}[/]"), 0)
    if found.last_known:
        paragraph(Text(printable(found.last_known)), 0)
    for doubt in found.doubts:
        paragraph(Text.assemble(("! ", "yellow"), printable(doubt)), 0)
    if found.cause:
        out.print()
        _problem(found.cause)
    if found.components:
        paragraph(Text(found.components, "dim"))
    if found.todo:
        out.print()
        for item in found.todo:
            paragraph(Text.assemble(("→ ", "cyan"), _as_code(printable(item))), 0)
    if found.others:
        title("Also")
        for problem in found.others:
            _also(problem)
    if found.happenings:
        title("Recent warnings")
        now = datetime.now(UTC)
        for happening in found.happenings:
            _happening(happening, now)


def _problem(problem: Problem) -> None:
    paragraph(Text(printable(problem.message or problem.meaning.says)))
    if problem.message:
        gloss = _as_code(f": {problem.meaning.says}") if problem.meaning.says else ""
        paragraph(Text.assemble((problem.reason, "bold"), gloss, style="dim"))


def _also(problem: Problem) -> None:
    where = f" ({', '.join(problem.where)})" if problem.where else ""
    paragraph(
        Text.assemble((problem.reason, "yellow" if problem.stuck else "dim"), f"{where}: {printable(problem.message)}")
    )


def _happening(item: Happening, now: datetime) -> None:
    times = f", {item.count} times" if item.count > 1 else ""
    others = f" and {item.others} more" if item.others else ""
    when = (f"  {age(item.when, now)} ago{times}", "dim")
    paragraph(Text.assemble((item.reason, "yellow"), f"  {item.object}{others}", when))
    paragraph(Text(_short(printable(item.message)), "dim"), 2 * INDENT)


def _as_code(text: str) -> Text:
    """Markdown's `code`, as the meanings of reasons have it."""
    parts = text.split("`")
    return Text.assemble(*((part, "bold" if index % 2 else "") for index, part in enumerate(parts)))


def _short(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]} …"
