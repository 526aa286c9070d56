"""`python -m chatbot_chat [serve]`. Settings come from $CHATBOT_CONFIG and $CHATBOT_SECRETS."""

import gc

gc.disable()  # a quarter of the start: what is imported from here on stays, and `run` collects what does not

import argparse
import sys

from chatbot_common.app import run, serve
from chatbot_common.telemetry import configure_logging, configure_tracing
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor

from chatbot_chat.main import create_app
from chatbot_chat.settings import Settings


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(prog="chatbot_chat", description="Turns: prompt, providers, runs.")
    parser.add_argument("command", nargs="?", choices=("serve",), default="serve")
    parser.parse_args()
    settings = Settings.load_or_exit()
    configure_logging(settings.telemetry.log_level)
    instrumentors = [HTTPX2ClientInstrumentor(), RedisInstrumentor()]
    tracing = configure_tracing("chat", settings.bot, settings.telemetry, instrumentors)
    run(serve(create_app(settings), settings))
    tracing.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
