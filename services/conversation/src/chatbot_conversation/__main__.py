"""`python -m chatbot_conversation [serve|migrate|copy|worker]`. Settings: $CHATBOT_CONFIG and $CHATBOT_SECRETS."""

import gc

gc.disable()  # a quarter of the start: what is imported from here on stays, and `run` collects what does not

import argparse
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from chatbot_common.app import run, serve
from chatbot_common.copying import FORMER, copy_from
from chatbot_common.database import migrate_command
from chatbot_common.telemetry import configure_logging, configure_tracing
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor

from chatbot_conversation.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(prog="chatbot_conversation", description="History, knowledge, background jobs.")
    parser.add_argument("command", nargs="?", choices=("serve", "migrate", "copy", "worker"), default="serve")
    parser.add_argument(
        "--wait", type=float, default=60, metavar="SECONDS", help="how long migrate and copy wait for the database (60)"
    )
    parser.add_argument(
        "--from", dest="former", type=Path, default=FORMER, metavar="FILE", help="copy: the old database's URL"
    )
    parser.add_argument("--mark", default="hand", metavar="NAME", help="copy: made once under each name")
    told = parser.parse_args()
    settings = Settings.load_or_exit()
    configure_logging(settings.telemetry.log_level)
    database = settings.database_url.get_secret_value()
    match told.command:
        case "migrate":
            return run(migrate_command(database, MIGRATIONS, told.wait))
        case "copy":
            return run(copy_from(told.former.read_text(), database, MIGRATIONS, told.mark, told.wait))
        # Each process imports only what it runs: that is a third of its start-up.
        case "worker":
            from chatbot_conversation.worker import run_worker

            return _traced("conversation-worker", settings, run_worker(settings))
        case _:
            from chatbot_conversation.main import create_app

            return _traced("conversation", settings, serve(create_app(settings), settings))


def _traced(name: str, settings: Settings, process: Coroutine[Any, Any, None]) -> int:
    instrumentors = [AsyncPGInstrumentor(), HTTPX2ClientInstrumentor()]  # type: ignore[no-untyped-call]
    tracing = configure_tracing(name, settings.bot, settings.telemetry, instrumentors)
    run(process)
    tracing.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
