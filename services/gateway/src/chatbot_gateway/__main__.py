"""`python -m chatbot_gateway [serve]`. Settings come from $CHATBOT_CONFIG and $CHATBOT_SECRETS."""

import gc

gc.disable()  # a quarter of the start: what is imported from here on stays, and `run` collects what does not

import argparse
import sys

from chatbot_common.app import run, serve
from chatbot_common.telemetry import configure_logging, configure_tracing
from opentelemetry.instrumentation.redis import RedisInstrumentor

from chatbot_gateway.main import create_app
from chatbot_gateway.settings import Settings


def main() -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(prog="chatbot_gateway", description="The only public door.")
    parser.add_argument("command", nargs="?", choices=("serve",), default="serve")
    parser.parse_args()
    settings = Settings.load_or_exit()
    configure_logging(settings.telemetry.log_level)
    # The requests to services are traced by the proxy's own client, which leaves query strings out.
    tracing = configure_tracing("gateway", settings.bot, settings.telemetry, [RedisInstrumentor()])
    run(serve(create_app(settings), settings, settings.trusted_proxies))
    tracing.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
