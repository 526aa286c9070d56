"""`python -m chatbot_auth [serve|migrate]`. Settings come from $CHATBOT_CONFIG and $CHATBOT_SECRETS."""

import argparse
import sys
from pathlib import Path

from chatbot_common.app import run, serve
from chatbot_common.database import migrate_command
from chatbot_common.telemetry import configure_logging, configure_tracing
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

from chatbot_auth.main import create_app
from chatbot_auth.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(prog="chatbot_auth", description="Accounts, sessions and signing keys.")
    parser.add_argument("command", nargs="?", choices=("serve", "migrate"), default="serve")
    parser.add_argument(
        "--wait", type=float, default=60, metavar="SECONDS", help="how long migrate waits for the database (60)"
    )
    told = parser.parse_args()
    settings = Settings.load()
    configure_logging(settings.telemetry.log_level)
    if told.command == "migrate":
        return run(migrate_command(settings.database_url.get_secret_value(), MIGRATIONS, told.wait))
    return _serve(settings)


def _serve(settings: Settings) -> int:
    tracing = configure_tracing("auth", settings.bot, settings.telemetry, [AsyncPGInstrumentor()])  # type: ignore[no-untyped-call]
    run(serve(create_app(settings), settings))
    tracing.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
