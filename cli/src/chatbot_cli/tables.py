"""Tables on the screen."""

import json

from rich.markup import escape
from rich.table import Table

from chatbot_cli.calling import call
from chatbot_cli.durations import duration
from chatbot_cli.screen import out
from chatbot_cli.status import Report, Row

_COLOURS = {"ready": "green", "not ready": "yellow", "down": "red"}


def show_status(report: Report, *, as_json: bool) -> None:
    if as_json:
        out.file.write(json.dumps(report.as_json(), indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("process", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("pid", "memory", "uptime", "port", "private"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for row in report.rows:
        table.add_row(*_cells(row))
    out.print(f"[bold]{escape(report.bot)}[/]  [dim]{escape(report.file or '')}[/]")
    out.print(table, soft_wrap=False)
    again = escape(call(f"up -f {report.file or 'FILE'}"))
    if report.ok:
        out.print(f"[green]Everything answers.[/] {report.url}")
    elif report.stopped:
        out.print(f"[yellow]It is stopped.[/] Start it with: {again}")
    else:
        out.print(f"[yellow]Not everything answers.[/] Bring it back with: {again}")


def _cells(row: Row) -> list[str]:
    return [
        f"[bold]{row.name}[/]",
        f"[{_COLOURS[row.state]}]{row.state}[/]",
        str(row.pid or ""),
        f"{row.memory_bytes / 1024**2:.0f} MB" if row.memory_bytes else "",
        duration(row.uptime_seconds),
        str(row.port or ""),
        str(row.private_port or ""),
        escape(row.reason),
    ]
