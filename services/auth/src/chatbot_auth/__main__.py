"""`python -m chatbot_auth [serve|migrate]`. Settings come from $CHATBOT_CONFIG and $CHATBOT_SECRETS."""

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog
import uvloop
from chatbot_common.app import serve
from chatbot_common.database import migrate
from chatbot_common.telemetry import configure_logging, configure_tracing
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from sqlalchemy.exc import DBAPIError

from chatbot_auth.main import create_app
from chatbot_auth.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"

log = structlog.get_logger("chatbot_auth")


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(prog="chatbot_auth", description="Accounts, sessions and signing keys.")
    parser.add_argument("command", nargs="?", choices=("serve", "migrate"), default="serve")
    command: str = parser.parse_args().command
    settings = Settings.load()
    configure_logging(settings.telemetry.log_level)
    return _migrate(settings) if command == "migrate" else _serve(settings)


def _serve(settings: Settings) -> int:
    tracing = configure_tracing("auth", settings.bot, settings.telemetry, [AsyncPGInstrumentor()])  # type: ignore[no-untyped-call]
    _run(serve(create_app(settings), settings))
    tracing.shutdown()
    return 0


def _migrate(settings: Settings) -> int:
    try:
        revision = _run(migrate(settings.database_url.get_secret_value(), MIGRATIONS))
    except (OSError, DBAPIError) as error:
        # Whoever started us tries again; a traceback would say no more than this.
        log.error("migration failed", error=type(error).__name__, reason=str(getattr(error, "orig", error)))
        return 1
    log.info("database migrated", revision=revision)
    return 0


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


if __name__ == "__main__":
    sys.exit(main())
