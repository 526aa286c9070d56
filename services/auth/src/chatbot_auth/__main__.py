"""`python -m chatbot_auth [serve|migrate|copy]`. Settings come from $CHATBOT_CONFIG and $CHATBOT_SECRETS."""

import gc

gc.disable()  # a quarter of the start: what is imported from here on stays, and `run` collects what does not

import argparse
import sys
from pathlib import Path

from chatbot_common.app import run, serve
from chatbot_common.copying import FORMER, copy_from
from chatbot_common.database import migrate_command
from chatbot_common.telemetry import configure_logging, configure_tracing
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

from chatbot_auth.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(prog="chatbot_auth", description="Accounts, sessions and signing keys.")
    parser.add_argument("command", nargs="?", choices=("serve", "migrate", "copy"), default="serve")
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
    if told.command == "migrate":
        return run(migrate_command(settings.database_url.get_secret_value(), MIGRATIONS, told.wait))
    if told.command == "copy":
        return run(
            copy_from(
                told.former.read_text(), settings.database_url.get_secret_value(), MIGRATIONS, told.mark, told.wait
            )
        )
    return _serve(settings)


def _serve(settings: Settings) -> int:
    from chatbot_auth.main import create_app  # a migration starts in half the time without it

    tracing = configure_tracing("auth", settings.bot, settings.telemetry, [AsyncPGInstrumentor()])  # type: ignore[no-untyped-call]
    run(serve(create_app(settings), settings))
    tracing.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
