"""`python -m chatbot_conversation [serve|migrate|worker]`. Settings come from $CHATBOT_CONFIG and $CHATBOT_SECRETS."""

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
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from sqlalchemy.exc import DBAPIError

from chatbot_conversation.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"

log = structlog.get_logger("chatbot_conversation")


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(prog="chatbot_conversation", description="History, knowledge, background jobs.")
    parser.add_argument("command", nargs="?", choices=("serve", "migrate", "worker"), default="serve")
    command: str = parser.parse_args().command
    settings = Settings.load()
    configure_logging(settings.telemetry.log_level)
    match command:
        case "migrate":
            return _migrate(settings)
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
    _run(process)
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
